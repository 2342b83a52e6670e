// Sixteen floats as two registers, and the products of bytes, for AVX2 with FMA.  avx512.h has the same names, and means
// the same by them (but that a power of two below the least normal float is 0 here).
//
// AVX2's product of bytes (vpmaddubsw) adds in 16 bits and saturates, which is wrong for full-range operands.  So the inputs
// are stored in 16 bits, weights are widened as they are read, and pairs are added in 32 bits (vpmaddwd): exact, and with
// half the multiplications of float32.
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lanes.h"

namespace leeway {

constexpr int HALF = 8;  // floats of one register

struct Floats {
    __m256 low, high;
};
struct Integers {
    __m256i low, high;
};
struct Lanes {  // which of the sixteen: all bits of each, or none
    __m256i low, high;
};
using Byte = uint16_t;  // an unsigned byte, as the inputs of a product are stored

// The lanes of the vector at `first` that lie below `count`.
inline Lanes lanes_below(int first, int count) {
    const __m256i left = _mm256_set1_epi32(count - first);
    return {_mm256_cmpgt_epi32(left, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
            _mm256_cmpgt_epi32(left, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}

inline Floats zeros() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Floats spread(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
inline Integers spread(int32_t value) { return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)}; }
inline Floats load(const float* at) { return {_mm256_load_ps(at), _mm256_load_ps(at + HALF)}; }
inline void store(float* at, Floats values) {
    _mm256_store_ps(at, values.low);
    _mm256_store_ps(at + HALF, values.high);
}
inline void store_some(float* at, Lanes lanes, Floats values) {
    const auto put = [](float* to, __m256i chosen, __m256 half) {  // masked stores are slow on AMD before Zen 4
        if (_mm256_movemask_ps(_mm256_castsi256_ps(chosen)) == 0xFF)
            _mm256_storeu_ps(to, half);
        else
            _mm256_maskstore_ps(to, chosen, half);
    };
    put(at, lanes.low, values.low);
    put(at + HALF, lanes.high, values.high);
}
inline Floats load_sums(const int32_t* at) {
    const __m256i* halves = reinterpret_cast<const __m256i*>(at);
    return {_mm256_cvtepi32_ps(_mm256_load_si256(halves)), _mm256_cvtepi32_ps(_mm256_load_si256(halves + 1))};
}

// Up to sixteen signed bytes, those from `count` on, which may be negative, zeros.
inline Floats load_bytes(const int8_t* at, int count) {
    int8_t part[LANES] = {};
    if (count < LANES) at = static_cast<const int8_t*>(memcpy(part, at, size_t(count > 0 ? count : 0)));
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
            _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes)))};
}

inline Floats add(Floats a, Floats b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline Floats subtract(Floats a, Floats b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
inline Floats multiply(Floats a, Floats b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
inline Floats multiply_add(Floats a, Floats b, Floats c) {  // a b + c
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Floats multiply_subtract_from(Floats a, Floats b, Floats c) {  // c - a b
    return {_mm256_fnmadd_ps(a.low, b.low, c.low), _mm256_fnmadd_ps(a.high, b.high, c.high)};
}
inline Floats lesser(Floats a, Floats b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
inline Floats greater(Floats a, Floats b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
inline Floats absolute(Floats a) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}

inline Floats only(Lanes lanes, Floats a) {  // elsewhere 0
    return {_mm256_and_ps(_mm256_castsi256_ps(lanes.low), a.low), _mm256_and_ps(_mm256_castsi256_ps(lanes.high), a.high)};
}
inline Floats subtract_in(Lanes lanes, Floats a, Floats b) { return only(lanes, subtract(a, b)); }  // elsewhere 0

// In `lanes` the greater of both, elsewhere `a`.
inline Floats greater_in(Lanes lanes, Floats a, Floats b) {
    const Floats found = greater(a, b);
    return {_mm256_blendv_ps(a.low, found.low, _mm256_castsi256_ps(lanes.low)),
            _mm256_blendv_ps(a.high, found.high, _mm256_castsi256_ps(lanes.high))};
}

inline float sum_of(Floats a) {
    const __m256 eight = _mm256_add_ps(a.low, a.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float greatest_of(Floats a) {
    const __m256 eight = _mm256_max_ps(a.low, a.high);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline Floats whole(Floats a) {  // the nearest
    constexpr int NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(a.low, NEAREST), _mm256_round_ps(a.high, NEAREST)};
}
inline Integers truncated(Floats a) { return {_mm256_cvttps_epi32(a.low), _mm256_cvttps_epi32(a.high)}; }
inline Floats to_floats(Integers a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }

// a 2^power, `power` being whole and at most 0; 0 where 2^power is no normal number.
inline Floats times_power_of_two(Floats a, Floats power) {
    const auto factor = [](__m256 each) {
        const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(each), _mm256_set1_epi32(127));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_max_epi32(exponent, _mm256_setzero_si256()), 23));
    };
    return multiply(a, {factor(power.low), factor(power.high)});
}

// table[index], sixteen entries.
inline Floats looked_up(const float* table, Integers index) {
    const __m256 front = _mm256_load_ps(table), back = _mm256_load_ps(table + HALF);
    const auto found = [&](__m256i each) {  // three bits choose of eight, the fourth which eight
        const __m256 is_back = _mm256_castsi256_ps(_mm256_slli_epi32(each, 28));
        return _mm256_blendv_ps(_mm256_permutevar8x32_ps(front, each), _mm256_permutevar8x32_ps(back, each), is_back);
    };
    return {found(index.low), found(index.high)};
}

// clamp(round_half_even(scaled) + zero, 0, 255); `scaled` is at most 512, so that no integer overflows.
inline void store_rounded(Byte* out, Floats scaled, Integers zero) {
    // Halves to even; what is below all integers becomes the least; 16 bits saturate.
    const __m256i low = _mm256_add_epi32(_mm256_cvtps_epi32(scaled.low), zero.low);
    const __m256i high = _mm256_add_epi32(_mm256_cvtps_epi32(scaled.high), zero.high);
    const __m256i narrow = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
    const __m256i clamped = _mm256_max_epi16(_mm256_min_epi16(narrow, _mm256_set1_epi16(255)), _mm256_setzero_si256());
    _mm256_store_si256(reinterpret_cast<__m256i*>(out), clamped);
}

// Rows of 8 x 8 floats become columns.
inline void transpose(__m256 (&lines)[HALF]) {
    __m256 mixed[HALF];
    for (int row = 0; row < HALF; row += 2) {
        mixed[row] = _mm256_unpacklo_ps(lines[row], lines[row + 1]);
        mixed[row + 1] = _mm256_unpackhi_ps(lines[row], lines[row + 1]);
    }
    for (int row = 0; row < HALF; row += 4)
        for (int part = 0; part < 2; ++part) {
            const __m256d low = _mm256_castps_pd(mixed[row + part]), high = _mm256_castps_pd(mixed[row + part + 2]);
            lines[row + 2 * part] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
            lines[row + 2 * part + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
        }
    for (int part = 0; part < 4; ++part) {
        const __m256 front = lines[part], back = lines[part + 4];
        lines[part] = _mm256_permute2f128_ps(front, back, 0x20);
        lines[part + 4] = _mm256_permute2f128_ps(front, back, 0x31);
    }
}

// Columns of 16 x 16 floats as vectors; rows of `in` from `rows` on are not read, and count as zeros.
inline void transpose(const float* in, size_t stride, int rows, Floats (&columns)[LANES]) {
    for (int first = 0; first < LANES; first += HALF)
        for (int at = 0; at < LANES; at += HALF) {
            __m256 lines[HALF];
            for (int row = 0; row < HALF; ++row)
                lines[row] = first + row < rows ? _mm256_load_ps(in + (first + row) * stride + at) : _mm256_setzero_ps();
            transpose(lines);
            for (int column = 0; column < HALF; ++column)
                (first == 0 ? columns[at + column].low : columns[at + column].high) = lines[column];
        }
}

constexpr int PANEL = 16;        // columns of one panel: two registers of sums
constexpr int SIDE_BY_SIDE = 2;  // inputs of one column that lie beside each other
constexpr int MOST_SUMS = 1;     // vectors of sums for one of six rows: 12 of the 16 registers in all

// One group of rows by one panel, summed in 32 bits: out = offset + input . weight.  A function of its own, as in avx512.h.
template <int ROWS>
[[gnu::noinline]] void product_tile(const Byte* input, int inputs, const int8_t* weight, const int32_t* offset,
                                    int32_t (*out)[PANEL]) {
    constexpr int PARTS = PANEL / HALF;
    __m256i sums[ROWS][PARTS];
    UNROLLED for (int part = 0; part < PARTS; ++part) {
        const __m256i first = _mm256_load_si256(reinterpret_cast<const __m256i*>(offset + part * HALF));
        UNROLLED for (int row = 0; row < ROWS; ++row) sums[row][part] = first;
    }
    for (int at = 0; at < inputs; at += 2, weight += 2 * PANEL) {
        __m256i columns[PARTS];
        UNROLLED for (int part = 0; part < PARTS; ++part)
            columns[part] = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(weight + part * 2 * HALF)));
        UNROLLED for (int row = 0; row < ROWS; ++row) {
            int32_t two;
            memcpy(&two, input + size_t(row) * inputs + at, sizeof two);
            const __m256i spread = _mm256_set1_epi32(two);
            UNROLLED for (int part = 0; part < PARTS; ++part)
                sums[row][part] = _mm256_add_epi32(sums[row][part], _mm256_madd_epi16(spread, columns[part]));
        }
    }
    UNROLLED for (int row = 0; row < ROWS; ++row)
        UNROLLED for (int part = 0; part < PARTS; ++part)
            _mm256_store_si256(reinterpret_cast<__m256i*>(out[row] + part * HALF), sums[row][part]);
}

}  // namespace leeway
