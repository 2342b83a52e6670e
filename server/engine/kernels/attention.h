// Attention of a few queries over all keys of one head, in float32 or with products of bfloat16 summed in float32.
#pragma once

#include "vectors.h"

namespace leeway {

// An arithmetic multiplies TOGETHER neighbours at once and adds them to one lane of a vector of float32 sums.
struct Float32 {
    static constexpr int TOGETHER = 1;
    using Stored = float;

    static void add(__m512& sums, __m512 one, __m512 other) { sums = _mm512_fmadd_ps(one, other, sums); }
    static __m512 spread(const Stored* at) { return _mm512_set1_ps(*at); }
    static void store(Stored* out, __m512 values) { _mm512_store_ps(out, values); }
    static __m512 load(const Stored* at) { return _mm512_load_ps(at); }
    static __m512 interleaved(const __m512* neighbours) { return neighbours[0]; }
};

struct BFloat16 {
    static constexpr int TOGETHER = 2;
    using Stored = uint16_t;

    static void add(__m512& sums, __m512 one, __m512 other) {
        asm("vdpbf16ps %2, %1, %0" : "+v"(sums) : "v"(one), "v"(other));  // see add_products
    }
    static __m512 spread(const Stored* at) {
        float two;
        memcpy(&two, at, sizeof two);
        return _mm512_set1_ps(two);
    }
    static void store(Stored* out, __m512 values) { _mm256_store_si256(reinterpret_cast<__m256i*>(out), rounded(values)); }
    static __m512 load(const Stored* at) { return widened(_mm256_load_si256(reinterpret_cast<const __m256i*>(at))); }
    static __m512 interleaved(const __m512* neighbours) {
        const __m512i low = _mm512_cvtepu16_epi32(rounded(neighbours[0]));
        return _mm512_or_ps(_mm512_castsi512_ps(low), widened(rounded(neighbours[1])));
    }

   private:
    static __m256i rounded(__m512 values) { return (__m256i)_mm512_cvtneps_pbh(values); }
    static __m512 widened(__m256i values) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
    }
};

constexpr int QUERIES = 6;  // at a time: 24 registers of scores
constexpr int KEYS = 4 * LANES;

// One head.  `width` is its size, padded to a multiple of 16 with zeros.
template <class Arithmetic>
struct Head {
    using Stored = typename Arithmetic::Stored;
    const Stored* keys;    // [width / TOGETHER][stride][TOGETHER]; what lies behind `count` is read and ignored
    const Stored* values;  // [count / TOGETHER][width][TOGETHER]; zeros where `count` is odd
    size_t stride;         // multiple of 16, room for `count` rounded up to a multiple of 64
    int width;
    int count;  // keys
};

// scores[row][key] = query[row] . key; `query` carries 1 / sqrt(size) already.
template <int ROWS, class Arithmetic>
[[gnu::noinline]] void scores_of(const Head<Arithmetic>& head, const typename Arithmetic::Stored* query, size_t query_stride,
                                 float* scores) {
    constexpr int TOGETHER = Arithmetic::TOGETHER;
    for (int first = 0; first < head.count; first += KEYS) {
        __m512 sums[ROWS][4];
        UNROLLED for (int row = 0; row < ROWS; ++row)
            UNROLLED for (int vector = 0; vector < 4; ++vector) sums[row][vector] = _mm512_setzero_ps();
        for (int at = 0; at < head.width; at += TOGETHER) {
            const auto* line = head.keys + at * head.stride + first * TOGETHER;
            __m512 keys[4];
            UNROLLED for (int vector = 0; vector < 4; ++vector) keys[vector] = _mm512_load_ps(line + vector * LANES * TOGETHER);
            UNROLLED for (int row = 0; row < ROWS; ++row) {
                const __m512 spread = Arithmetic::spread(query + row * query_stride + at);
                UNROLLED for (int vector = 0; vector < 4; ++vector) Arithmetic::add(sums[row][vector], spread, keys[vector]);
            }
        }
        UNROLLED for (int row = 0; row < ROWS; ++row)
            UNROLLED for (int vector = 0; vector < 4; ++vector)
                _mm512_store_ps(scores + row * head.stride + first + vector * LANES, sums[row][vector]);
    }
}

// Weights e^(score - greatest) of one query, zeros behind `count`; returns 1 / their sum.
template <class Arithmetic>
inline float softened(const float* scores, int count, typename Arithmetic::Stored* weights) {
    __m512 greatest = _mm512_set1_ps(-INFINITY);
    for (int at = 0; at < count; at += LANES)
        greatest = _mm512_mask_max_ps(greatest, lanes_below(at, count), greatest, _mm512_load_ps(scores + at));
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(greatest));
    __m512 sum = _mm512_setzero_ps();
    for (int at = 0; at < count; at += LANES) {
        const __m512 power = exponential(_mm512_sub_ps(_mm512_load_ps(scores + at), top));
        const __m512 real = _mm512_maskz_mov_ps(lanes_below(at, count), power);
        Arithmetic::store(weights + at, real);
        sum = _mm512_add_ps(sum, real);
    }
    return 1.0f / _mm512_reduce_add_ps(sum);
}

// out[row] = factors[row] * sum over keys of weights[row][key] * value[key].
template <int ROWS, int VECTORS_WIDE, class Arithmetic>
[[gnu::noinline]] void mixed(const Head<Arithmetic>& head, const typename Arithmetic::Stored* weights, const float* factors,
                             float* out) {
    constexpr int TOGETHER = Arithmetic::TOGETHER, WIDTH = VECTORS_WIDE * LANES;
    __m512 sums[ROWS][VECTORS_WIDE];
    UNROLLED for (int row = 0; row < ROWS; ++row)
        UNROLLED for (int vector = 0; vector < VECTORS_WIDE; ++vector) sums[row][vector] = _mm512_setzero_ps();
    for (int key = 0; key < head.count; key += TOGETHER) {
        __m512 value[VECTORS_WIDE];
        UNROLLED for (int vector = 0; vector < VECTORS_WIDE; ++vector)
            value[vector] = _mm512_load_ps(head.values + size_t(key) * WIDTH + vector * LANES * TOGETHER);
        UNROLLED for (int row = 0; row < ROWS; ++row) {
            const __m512 spread = Arithmetic::spread(weights + row * head.stride + key);
            UNROLLED for (int vector = 0; vector < VECTORS_WIDE; ++vector)
                Arithmetic::add(sums[row][vector], spread, value[vector]);
        }
    }
    UNROLLED for (int row = 0; row < ROWS; ++row)
        UNROLLED for (int vector = 0; vector < VECTORS_WIDE; ++vector)
            _mm512_store_ps(out + row * WIDTH + vector * LANES,
                            _mm512_mul_ps(sums[row][vector], _mm512_set1_ps(factors[row])));
}

constexpr int WIDEST_HEAD = 4 * LANES;

// Buffers of one member of the team, and what comes out of `attend`.
template <class Arithmetic>
struct Attended {
    float* scores;                         // [QUERIES][stride]
    typename Arithmetic::Stored* weights;  // [QUERIES][stride]: not yet divided by their sum
    float factors[QUERIES];                // 1 / their sum
    alignas(64) float out[QUERIES * WIDEST_HEAD];  // [ROWS][width]
};

template <int ROWS, class Arithmetic>
inline void attend_rows(const Head<Arithmetic>& head, const typename Arithmetic::Stored* query, size_t query_stride,
                        Attended<Arithmetic>& to) {
    scores_of<ROWS>(head, query, query_stride, to.scores);
    for (int row = 0; row < ROWS; ++row)
        to.factors[row] =
            softened<Arithmetic>(to.scores + row * head.stride, head.count, to.weights + row * head.stride);
    switch (head.width / LANES) {
        case 1: return mixed<ROWS, 1>(head, to.weights, to.factors, to.out);
        case 2: return mixed<ROWS, 2>(head, to.weights, to.factors, to.out);
        case 3: return mixed<ROWS, 3>(head, to.weights, to.factors, to.out);
        default: return mixed<ROWS, 4>(head, to.weights, to.factors, to.out);
    }
}

// Attention of `rows` queries, at most QUERIES.
template <class Arithmetic>
inline void attend(int rows, const Head<Arithmetic>& head, const typename Arithmetic::Stored* query, size_t query_stride,
                   Attended<Arithmetic>& to) {
    switch (rows) {
        case 1: return attend_rows<1>(head, query, query_stride, to);
        case 2: return attend_rows<2>(head, query, query_stride, to);
        case 3: return attend_rows<3>(head, query, query_stride, to);
        case 4: return attend_rows<4>(head, query, query_stride, to);
        case 5: return attend_rows<5>(head, query, query_stride, to);
        default: return attend_rows<QUERIES>(head, query, query_stride, to);
    }
}

}  // namespace leeway
