# What the real runs (full.sh, onward.sh) share; read by them, not run.

# TRAIN and BASE may be hub names or local paths.
TRAIN="${TRAIN:-rajpurkar/squad}"
BASE="${BASE:-sentence-transformers/all-MiniLM-L6-v2}"
STORE="${STORE:-model_store/artifacts}"

# Activations of a training step are tens of megabytes each; glibc would map and unmap, and so zero, them every
# time.  Kept on the heap, in huge pages, a step takes 17% less time (trainer/LOG.md).
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1
