// The kernels of the engine `native`.  A stand-in until they come: it shows that what they are made of compiles and loads.

#include <immintrin.h>

namespace {

// The sum of the products of 64 unsigned and 64 signed bytes.
__attribute__((used)) int dot(const void *left, const void *right) {
  const __m512i sums = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_loadu_si512(left), _mm512_loadu_si512(right));
  return _mm512_reduce_add_epi32(sums);
}

}  // namespace

// Of the functions in this library; asked before any other of them is called, and safe on every x86-64.
extern "C" __attribute__((visibility("default"))) int leeway_native_version(void) { return 1; }
