// What every level of instructions has in common.
#pragma once

// A loop with few rounds, all of them written out: what it sums up then stays in registers.
#define UNROLLED _Pragma("GCC unroll 16")

namespace leeway {

constexpr int LANES = 16;  // floats of one vector
constexpr int BLOCK = 64;  // what widths are padded to

inline int padded(int count, int step) { return (count + step - 1) / step * step; }

}  // namespace leeway
