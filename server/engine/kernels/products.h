// Products of unsigned and signed bytes, summed in 32 bits (VNNI), of a few rows and a packed weight matrix.
#pragma once

#include <string.h>

#include "vectors.h"

namespace leeway {

constexpr int PANEL = 64;  // columns of one panel: four vectors of sums
constexpr int GROUP = 6;   // rows of one group: 24 registers of sums, four of weights, one of inputs
constexpr int VECTORS = PANEL / LANES;

// A linear layer over inputs of 8 bits; the layout is native_tensors.py's `LinearStructure`.
struct Linear {
    const int8_t* weight;  // [panels][inputs / 4][64 columns][4 inputs]
    const int32_t* offset;  // [outputs]: minus the input's zero point times the column's sum
    const float* scale;     // [outputs]
    const float* bias;      // [outputs]
    const float* inverse;   // [inputs]: 1 / input scale
    int32_t zero;           // of the input
    int32_t inputs;         // multiple of 64
    int32_t outputs;        // multiple of 64
};

// sums += unsigned bytes . signed bytes, four by four.  Not by the intrinsic: of 24 sums GCC 12 then copies each to and
// from another register, runs out of them, and takes twice the time.
inline void add_products(__m512i& sums, __m512i bytes, __m512i weights) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(bytes), "v"(weights));
}

// One group of rows by one panel.  A function of its own: inlined beside what uses the sums, they lose their registers.
template <int ROWS>
[[gnu::noinline]] void product_tile(const uint8_t* input, int inputs, const int8_t* weight, const int32_t* offset,
                                    int32_t (*out)[PANEL]) {
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

inline void product_tile(int rows, const uint8_t* input, int inputs, const int8_t* weight, const int32_t* offset,
                         int32_t (*out)[PANEL]) {
    switch (rows) {
        case 1: return product_tile<1>(input, inputs, weight, offset, out);
        case 2: return product_tile<2>(input, inputs, weight, offset, out);
        case 3: return product_tile<3>(input, inputs, weight, offset, out);
        case 4: return product_tile<4>(input, inputs, weight, offset, out);
        case 5: return product_tile<5>(input, inputs, weight, offset, out);
        default: return product_tile<GROUP>(input, inputs, weight, offset, out);
    }
}

// `take(row, column, sixteen outputs)` for every output of `count` rows of bytes, `[count][inputs]`.  Panel after panel,
// as one fits into the first-level cache and the rows into the second.
template <class Take>
inline void product(const Linear& linear, const uint8_t* rows, int count, Take&& take) {
    alignas(64) int32_t sums[GROUP][PANEL];
    for (int first = 0; first < linear.outputs; first += PANEL)
        for (int row = 0; row < count; row += GROUP) {
            const int group = count - row < GROUP ? count - row : GROUP;
            product_tile(group, rows + size_t(row) * linear.inputs, linear.inputs,
                         linear.weight + size_t(first) * linear.inputs, linear.offset + first, sums);
            for (int vector = 0; vector < PANEL; vector += LANES) {
                const __m512 scale = _mm512_load_ps(linear.scale + first + vector);
                const __m512 bias = _mm512_load_ps(linear.bias + first + vector);
                for (int inside = 0; inside < group; ++inside) {
                    const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(sums[inside] + vector));
                    take(row + inside, first + vector, _mm512_fmadd_ps(sum, scale, bias));
                }
            }
        }
}

}  // namespace leeway
