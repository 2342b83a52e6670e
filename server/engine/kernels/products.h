// Products of unsigned and signed bytes, summed in 32 bits, of a few rows and a packed weight matrix.
#pragma once

#include "vectors.h"

namespace leeway {

constexpr int GROUP = 6;  // rows of one group: as many as there are registers for their sums

// A linear layer over inputs of 8 bits; the layout is native_tensors.py's `LinearStructure`.
struct Linear {
    const int8_t* weight;   // [panels][inputs / SIDE_BY_SIDE][PANEL columns][SIDE_BY_SIDE inputs]
    const int32_t* offset;  // [outputs]: minus the input's zero point times the column's sum
    const float* scale;     // [outputs]
    const float* bias;      // [outputs]
    const float* inverse;   // [inputs]: 1 / input scale
    int32_t zero;           // of the input
    int32_t inputs;         // multiple of 64
    int32_t outputs;        // multiple of 64
};

inline void product_tile(int rows, const Byte* input, int inputs, const int8_t* weight, const int32_t* offset,
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
inline void product(const Linear& linear, const Byte* rows, int count, Take&& take) {
    alignas(64) int32_t sums[GROUP][PANEL];
    for (int first = 0; first < linear.outputs; first += PANEL)
        for (int row = 0; row < count; row += GROUP) {
            const int group = count - row < GROUP ? count - row : GROUP;
            product_tile(group, rows + size_t(row) * linear.inputs, linear.inputs,
                         linear.weight + size_t(first) * linear.inputs, linear.offset + first, sums);
            for (int vector = 0; vector < PANEL; vector += LANES) {
                const Floats scale = load(linear.scale + first + vector);
                const Floats bias = load(linear.bias + first + vector);
                for (int inside = 0; inside < group; ++inside)
                    take(row + inside, first + vector, multiply_add(load_sums(sums[inside] + vector), scale, bias));
            }
        }
}

}  // namespace leeway
