"""Parts of ``python -m benchmarks.simulate``: the server's own routing under a virtual clock.

`world` says what is simulated, `trace` what is asked, `baselines` and `intervals` hold other systems' policies,
`loop` runs one of them through one trace, `oracle` bounds all of them, `scores`, `checks`, `tables` and `plots` report.
"""
