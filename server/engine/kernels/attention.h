// Attention of a few queries over all keys of one head, in float32.
#pragma once

#include "vectors.h"

namespace leeway {

constexpr int QUERIES = 6;  // at a time: 24 registers of scores
constexpr int KEYS = 4 * LANES;

// One head.  `width` is its size, padded to a multiple of 16 with zeros.
struct Head {
    const float* keys;    // [width][stride]: transposed; what lies behind `count` is read and ignored
    const float* values;  // [count][width]
    size_t stride;        // multiple of 16, room for `count` rounded up to 64
    int width;
    int count;  // keys
};

// scores[row][key] = query[row] . key; `query` carries 1 / sqrt(size) already.
template <int ROWS>
[[gnu::noinline]] void scores_of(const Head& head, const float* query, size_t query_stride, float* scores) {
    for (int first = 0; first < head.count; first += KEYS) {
        __m512 sums[ROWS][4];
        UNROLLED for (int row = 0; row < ROWS; ++row)
            UNROLLED for (int vector = 0; vector < 4; ++vector) sums[row][vector] = _mm512_setzero_ps();
        for (int at = 0; at < head.width; ++at) {
            const float* line = head.keys + at * head.stride + first;
            __m512 keys[4];
            UNROLLED for (int vector = 0; vector < 4; ++vector) keys[vector] = _mm512_load_ps(line + vector * LANES);
            UNROLLED for (int row = 0; row < ROWS; ++row) {
                const __m512 spread = _mm512_set1_ps(query[row * query_stride + at]);
                UNROLLED for (int vector = 0; vector < 4; ++vector)
                    sums[row][vector] = _mm512_fmadd_ps(spread, keys[vector], sums[row][vector]);
            }
        }
        UNROLLED for (int row = 0; row < ROWS; ++row)
            UNROLLED for (int vector = 0; vector < 4; ++vector)
                _mm512_store_ps(scores + row * head.stride + first + vector * LANES, sums[row][vector]);
    }
}

// Turns scores into e^(score - greatest), zeros behind `count`; returns 1 / their sum.
inline float softened(float* scores, int count) {
    __m512 greatest = _mm512_set1_ps(-INFINITY);
    for (int at = 0; at < count; at += LANES)
        greatest = _mm512_mask_max_ps(greatest, lanes_below(at, count), greatest, _mm512_load_ps(scores + at));
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(greatest));
    __m512 sum = _mm512_setzero_ps();
    for (int at = 0; at < count; at += LANES) {
        const __m512 power = exponential(_mm512_sub_ps(_mm512_load_ps(scores + at), top));
        const __m512 real = _mm512_maskz_mov_ps(lanes_below(at, count), power);
        _mm512_store_ps(scores + at, real);
        sum = _mm512_add_ps(sum, real);
    }
    return 1.0f / _mm512_reduce_add_ps(sum);
}

template <int ROWS, int WIDTH, class Take>
inline void mixed(const Head& head, const float* weights, const float* factors, Take& take) {
    __m512 sums[ROWS][WIDTH];
    UNROLLED for (int row = 0; row < ROWS; ++row)
        UNROLLED for (int vector = 0; vector < WIDTH; ++vector) sums[row][vector] = _mm512_setzero_ps();
    for (int key = 0; key < head.count; ++key) {
        __m512 value[WIDTH];
        UNROLLED for (int vector = 0; vector < WIDTH; ++vector)
            value[vector] = _mm512_load_ps(head.values + (size_t(key) * WIDTH + vector) * LANES);
        UNROLLED for (int row = 0; row < ROWS; ++row) {
            const __m512 spread = _mm512_set1_ps(weights[row * head.stride + key]);
            UNROLLED for (int vector = 0; vector < WIDTH; ++vector)
                sums[row][vector] = _mm512_fmadd_ps(spread, value[vector], sums[row][vector]);
        }
    }
    UNROLLED for (int row = 0; row < ROWS; ++row)
        UNROLLED for (int vector = 0; vector < WIDTH; ++vector)
            take(row, vector * LANES, _mm512_mul_ps(sums[row][vector], _mm512_set1_ps(factors[row])));
}

// `take(row, column, sixteen mixed values)` for ROWS queries; `seen(row, weights, factor)` gets each row's attention.
template <int ROWS, class Take, class Seen>
inline void attend(const Head& head, const float* query, size_t query_stride, float* scores, Take&& take, Seen&& seen) {
    scores_of<ROWS>(head, query, query_stride, scores);
    float factors[ROWS];
    UNROLLED for (int row = 0; row < ROWS; ++row) {
        factors[row] = softened(scores + row * head.stride, head.count);
        seen(row, scores + row * head.stride, factors[row]);
    }
    switch (head.width / LANES) {
        case 1: mixed<ROWS, 1>(head, scores, factors, take); break;
        case 2: mixed<ROWS, 2>(head, scores, factors, take); break;
        case 3: mixed<ROWS, 3>(head, scores, factors, take); break;
        default: mixed<ROWS, 4>(head, scores, factors, take); break;
    }
}

}  // namespace leeway
