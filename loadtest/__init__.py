"""Load tests over HTTP: an open-loop generator under Locust, scenarios, and what came of them."""
