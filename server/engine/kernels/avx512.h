// Sixteen floats as one register, and the products of bytes, for AVX-512 (F, BW, DQ, VL) with VNNI.  avx2.h has the same
// names, and means the same by them.
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lanes.h"

namespace leeway {

using Floats = __m512;
using Integers = __m512i;
using Lanes = __mmask16;  // which of the sixteen
using Byte = uint8_t;     // an unsigned byte, as the inputs of a product are stored

// The lanes of the vector at `first` that lie below `count`.
inline Lanes lanes_below(int first, int count) {
    const int left = count - first;
    return left >= LANES ? Lanes(0xFFFF) : left <= 0 ? Lanes(0) : Lanes((1u << left) - 1u);
}

inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats spread(float value) { return _mm512_set1_ps(value); }
inline Integers spread(int32_t value) { return _mm512_set1_epi32(value); }
inline Floats load(const float* at) { return _mm512_load_ps(at); }
inline void store(float* at, Floats values) { _mm512_store_ps(at, values); }
inline void store_some(float* at, Lanes lanes, Floats values) { _mm512_mask_storeu_ps(at, lanes, values); }
inline Floats load_sums(const int32_t* at) { return _mm512_cvtepi32_ps(_mm512_load_si512(at)); }

// Up to sixteen signed bytes, those from `count` on, which may be negative, zeros.
inline Floats load_bytes(const int8_t* at, int count) {
    const __m128i bytes = _mm_maskz_loadu_epi8(lanes_below(0, count), at);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}

inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }        // a b + c
inline Floats multiply_subtract_from(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
inline Floats lesser(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats greater(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats absolute(Floats a) { return _mm512_abs_ps(a); }

// In `lanes` the greater of both, elsewhere `a`.
inline Floats greater_in(Lanes lanes, Floats a, Floats b) { return _mm512_mask_max_ps(a, lanes, a, b); }
inline Floats subtract_in(Lanes lanes, Floats a, Floats b) { return _mm512_maskz_sub_ps(lanes, a, b); }  // elsewhere 0
inline Floats only(Lanes lanes, Floats a) { return _mm512_maskz_mov_ps(lanes, a); }                      // elsewhere 0

inline float sum_of(Floats a) { return _mm512_reduce_add_ps(a); }
inline float greatest_of(Floats a) { return _mm512_reduce_max_ps(a); }

inline Floats whole(Floats a) { return _mm512_roundscale_ps(a, 8); }  // the nearest
inline Floats times_power_of_two(Floats a, Floats power) { return _mm512_scalef_ps(a, power); }  // a whole power, at most 0
inline Integers truncated(Floats a) { return _mm512_cvttps_epi32(a); }
inline Floats to_floats(Integers a) { return _mm512_cvtepi32_ps(a); }

// table[index], sixteen entries.
inline Floats looked_up(const float* table, Integers index) { return _mm512_permutexvar_ps(index, _mm512_load_ps(table)); }

// clamp(round_half_even(scaled) + zero, 0, 255); `scaled` is at most 512, so that no integer overflows.
inline void store_rounded(Byte* out, Floats scaled, Integers zero) {
    const __m512i rounded = _mm512_cvtps_epi32(scaled);  // halves to even; what is below all integers becomes the least
    const __m512i shifted = _mm512_max_epi32(_mm512_add_epi32(rounded, zero), _mm512_setzero_si512());
    _mm_store_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtusepi32_epi8(shifted));
}

// Columns of 16 x 16 floats as vectors; rows of `in` from `rows` on are not read, and count as zeros.
inline void transpose(const float* in, size_t stride, int rows, Floats (&columns)[LANES]) {
    __m512 lines[LANES], mixed[LANES];
    for (int row = 0; row < LANES; ++row)
        lines[row] = row < rows ? _mm512_load_ps(in + row * stride) : _mm512_setzero_ps();
    for (int row = 0; row < LANES; row += 2) {
        mixed[row] = _mm512_unpacklo_ps(lines[row], lines[row + 1]);
        mixed[row + 1] = _mm512_unpackhi_ps(lines[row], lines[row + 1]);
    }
    for (int row = 0; row < LANES; row += 4)
        for (int part = 0; part < 2; ++part) {
            const __m512d low = _mm512_castps_pd(mixed[row + part]), high = _mm512_castps_pd(mixed[row + part + 2]);
            lines[row + 2 * part] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            lines[row + 2 * part + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    for (int part = 0; part < 4; ++part) {
        const __m512 front_low = _mm512_shuffle_f32x4(lines[part], lines[part + 4], 0x88);
        const __m512 front_high = _mm512_shuffle_f32x4(lines[part], lines[part + 4], 0xDD);
        const __m512 back_low = _mm512_shuffle_f32x4(lines[part + 8], lines[part + 12], 0x88);
        const __m512 back_high = _mm512_shuffle_f32x4(lines[part + 8], lines[part + 12], 0xDD);
        columns[part] = _mm512_shuffle_f32x4(front_low, back_low, 0x88);
        columns[part + 4] = _mm512_shuffle_f32x4(front_high, back_high, 0x88);
        columns[part + 8] = _mm512_shuffle_f32x4(front_low, back_low, 0xDD);
        columns[part + 12] = _mm512_shuffle_f32x4(front_high, back_high, 0xDD);
    }
}

constexpr int PANEL = 64;       // columns of one panel: four registers of sums
constexpr int SIDE_BY_SIDE = 4;  // inputs of one column that lie beside each other
constexpr int MOST_SUMS = 4;    // registers of sums for one of six rows: 24 of the 32 in all

// sums += unsigned bytes . signed bytes, four by four.  Not by the intrinsic: of 24 sums GCC 12 then copies each to and
// from another register, runs out of them, and takes twice the time.
inline void add_products(__m512i& sums, __m512i bytes, __m512i weights) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(bytes), "v"(weights));
}

// One group of rows by one panel, summed in 32 bits: out = offset + input . weight.  A function of its own: inlined beside
// what uses the sums, they lose their registers.
template <int ROWS>
[[gnu::noinline]] void product_tile(const Byte* input, int inputs, const int8_t* weight, const int32_t* offset,
                                    int32_t (*out)[PANEL]) {
    constexpr int VECTORS = PANEL / LANES;
    __m512i sums[ROWS][VECTORS];
    UNROLLED for (int vector = 0; vector < VECTORS; ++vector) {
        const __m512i first = _mm512_load_si512(offset + vector * LANES);
        UNROLLED for (int row = 0; row < ROWS; ++row) sums[row][vector] = first;
    }
    for (int at = 0; at < inputs; at += 4, weight += 4 * PANEL) {
        __m512i columns[VECTORS];
        UNROLLED for (int vector = 0; vector < VECTORS; ++vector) columns[vector] = _mm512_load_si512(weight + vector * 64);
        UNROLLED for (int row = 0; row < ROWS; ++row) {
            int32_t four;
            memcpy(&four, input + size_t(row) * inputs + at, 4);
            const __m512i spread = _mm512_set1_epi32(four);
            UNROLLED for (int vector = 0; vector < VECTORS; ++vector)
                add_products(sums[row][vector], spread, columns[vector]);
        }
    }
    UNROLLED for (int row = 0; row < ROWS; ++row)
        UNROLLED for (int vector = 0; vector < VECTORS; ++vector)
            _mm512_store_si512(out[row] + vector * LANES, sums[row][vector]);
}

}  // namespace leeway
