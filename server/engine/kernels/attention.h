// Attention of a few queries over all keys of one head, in float32 or with products of bfloat16 summed in float32.
#pragma once

#include "vectors.h"

namespace leeway {

// An arithmetic multiplies TOGETHER neighbours at once and adds them to one lane of a vector of float32 sums.
struct Float32 {
    static constexpr int TOGETHER = 1;
    using Stored = float;

    static void add(Floats& sums, Floats one, Floats other) { sums = multiply_add(one, other, sums); }
    static Floats spread(const Stored* at) { return leeway::spread(*at); }
    static void store(Stored* out, Floats values) { leeway::store(out, values); }
    static Floats load(const Stored* at) { return leeway::load(at); }
    static Floats interleaved(const Floats* neighbours) { return neighbours[0]; }
};

#ifdef __AVX512BF16__
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
#endif

constexpr int QUERIES = 6;  // at a time: as many as there are registers for their scores
constexpr int KEYS = MOST_SUMS * LANES;

// One head.  `width` is its size, padded to a multiple of 16 with zeros.
template <class Arithmetic>
struct Head {
    using Stored = typename Arithmetic::Stored;
    const Stored* keys;    // [width / TOGETHER][stride][TOGETHER]; what lies behind `count` is read and ignored
    const Stored* values;  // [count / TOGETHER][width][TOGETHER]; zeros where `count` is odd
    size_t stride;         // multiple of 16, room for `count` rounded up to a multiple of KEYS
    int width;
    int count;  // keys
};

// Vectors of what an arithmetic stores, as they are.
template <class Stored>
inline Floats load_stored(const Stored* at) {
    return load(reinterpret_cast<const float*>(at));
}
template <class Stored>
inline void store_stored(Stored* at, Floats values) {
    store(reinterpret_cast<float*>(at), values);
}

// scores[row][key] = query[row] . key; `query` carries 1 / sqrt(size) already.
template <int ROWS, class Arithmetic>
[[gnu::noinline]] void scores_of(const Head<Arithmetic>& head, const typename Arithmetic::Stored* query, size_t query_stride,
                                 float* scores) {
    constexpr int TOGETHER = Arithmetic::TOGETHER;
    for (int first = 0; first < head.count; first += KEYS) {
        Floats sums[ROWS][MOST_SUMS];
        UNROLLED for (int row = 0; row < ROWS; ++row)
            UNROLLED for (int vector = 0; vector < MOST_SUMS; ++vector) sums[row][vector] = zeros();
        for (int at = 0; at < head.width; at += TOGETHER) {
            const auto* line = head.keys + at * head.stride + first * TOGETHER;
            Floats keys[MOST_SUMS];
            UNROLLED for (int vector = 0; vector < MOST_SUMS; ++vector)
                keys[vector] = load_stored(line + vector * LANES * TOGETHER);
            UNROLLED for (int row = 0; row < ROWS; ++row) {
                const Floats spread = Arithmetic::spread(query + row * query_stride + at);
                UNROLLED for (int vector = 0; vector < MOST_SUMS; ++vector)
                    Arithmetic::add(sums[row][vector], spread, keys[vector]);
            }
        }
        UNROLLED for (int row = 0; row < ROWS; ++row)
            UNROLLED for (int vector = 0; vector < MOST_SUMS; ++vector)
                store(scores + row * head.stride + first + vector * LANES, sums[row][vector]);
    }
}

// Weights e^(score - greatest) of one query, zeros behind `count`; returns 1 / their sum.
template <class Arithmetic>
inline float softened(const float* scores, int count, typename Arithmetic::Stored* weights) {
    Floats greatest = spread(-INFINITY);
    for (int at = 0; at < count; at += LANES)
        greatest = greater_in(lanes_below(at, count), greatest, load(scores + at));
    const Floats top = spread(greatest_of(greatest));
    Floats sum = zeros();
    for (int at = 0; at < count; at += LANES) {
        const Floats real = only(lanes_below(at, count), exponential(subtract(load(scores + at), top)));
        Arithmetic::store(weights + at, real);
        sum = add(sum, real);
    }
    return 1.0f / sum_of(sum);
}

// out[row] = factors[row] * sum over keys of weights[row][key] * value[key].
template <int ROWS, int VECTORS_WIDE, class Arithmetic>
[[gnu::noinline]] void mixed(const Head<Arithmetic>& head, const typename Arithmetic::Stored* weights, const float* factors,
                             float* out) {
    constexpr int TOGETHER = Arithmetic::TOGETHER, WIDTH = VECTORS_WIDE * LANES;
    constexpr int VECTORS = VECTORS_WIDE < MOST_SUMS ? VECTORS_WIDE : MOST_SUMS;  // at a time
    UNROLLED for (int first = 0; first < VECTORS_WIDE; first += VECTORS) {
        Floats sums[ROWS][VECTORS];
        UNROLLED for (int row = 0; row < ROWS; ++row)
            UNROLLED for (int vector = 0; vector < VECTORS; ++vector) sums[row][vector] = zeros();
        for (int key = 0; key < head.count; key += TOGETHER) {
            Floats value[VECTORS];
            UNROLLED for (int vector = 0; vector < VECTORS; ++vector)
                value[vector] = load_stored(head.values + size_t(key) * WIDTH + (first + vector) * LANES * TOGETHER);
            UNROLLED for (int row = 0; row < ROWS; ++row) {
                const Floats spread = Arithmetic::spread(weights + row * head.stride + key);
                UNROLLED for (int vector = 0; vector < VECTORS; ++vector)
                    Arithmetic::add(sums[row][vector], spread, value[vector]);
            }
        }
        UNROLLED for (int row = 0; row < ROWS; ++row)
            UNROLLED for (int vector = 0; vector < VECTORS; ++vector)
                store(out + row * WIDTH + (first + vector) * LANES, multiply(sums[row][vector], spread(factors[row])));
    }
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
