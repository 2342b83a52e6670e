// Sixteen floats at a time: exponential, GELU, sums, layer norm's pieces.  AVX-512 F, VL, BW, DQ.
#pragma once

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// A loop with few rounds, all of them written out: what it sums up then stays in registers.
#define UNROLLED _Pragma("GCC unroll 16")

namespace leeway {

constexpr int LANES = 16;

inline int padded(int count, int step) { return (count + step - 1) / step * step; }

// The lanes of the vector at `first` that lie below `count`.
inline __mmask16 lanes_below(int first, int count) {
    const int left = count - first;
    return left >= LANES ? __mmask16(0xFFFF) : left <= 0 ? __mmask16(0) : __mmask16((1u << left) - 1u);
}

// e^x of x <= 0, relative error below 3e-7; 0 where it underflows.  x = n ln 2 + r, |r| <= ln 2 / 2, and e^r by its series.
inline __m512 exponential(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-120.0f));  // far below what a float holds; the remainder stays small
    const __m512 turns = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896f)), 8);
    __m512 rest = _mm512_fnmadd_ps(turns, _mm512_set1_ps(0.693145751953125f), x);  // ln 2 in two parts
    rest = _mm512_fnmadd_ps(turns, _mm512_set1_ps(1.42860682030941723e-6f), rest);
    __m512 series = _mm512_set1_ps(1.0f / 720.0f);
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(1.0f / 120.0f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(1.0f / 24.0f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(1.0f / 6.0f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(0.5f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(1.0f));
    series = _mm512_fmadd_ps(series, rest, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(series, turns);
}

// GELU(x) = max(x, 0) - |x| T(|x|), where T(a) = 1 - Phi(a) is the normal distribution's tail (Hendrycks and Gimpel
// 2016).  T by its Taylor series of degree 5 around the middle of each of 16 segments of [0, 5); their coefficients
// fill one register per power, and a permutation looks them up.  Absolute error below 2e-6 up to |x| = 7, and 3e-7 of
// |x| beyond.
class Gelu {
   public:
    Gelu() {
        for (int segment = 0; segment < LANES; ++segment) {
            const double a = (segment + 0.5) * WIDTH;
            const double density = exp(-0.5 * a * a) / sqrt(2.0 * M_PI);
            const double derivatives[POWERS] = {0.5 * erfc(a / sqrt(2.0)),
                                                -density,
                                                a * density,
                                                -(a * a - 1.0) * density,
                                                (a * a - 3.0) * a * density,
                                                -((a * a - 6.0) * a * a + 3.0) * density};
            double factorial = 1.0;
            for (int power = 0; power < POWERS; ++power) {
                coefficients_[power][segment] = float(derivatives[power] / factorial);
                factorial *= power + 1;
            }
        }
    }

    __m512 operator()(__m512 x) const {
        const __m512 size = _mm512_abs_ps(x);
        const __m512 inside = _mm512_min_ps(size, _mm512_set1_ps(float(WIDTH * LANES) * 0.9999999f));
        const __m512i segment = _mm512_cvttps_epi32(_mm512_mul_ps(inside, _mm512_set1_ps(float(1.0 / WIDTH))));
        const __m512 middle = _mm512_fmadd_ps(_mm512_cvtepi32_ps(segment), _mm512_set1_ps(float(WIDTH)),
                                              _mm512_set1_ps(float(0.5 * WIDTH)));
        const __m512 apart = _mm512_sub_ps(inside, middle);
        __m512 tail = looked_up(POWERS - 1, segment);
        for (int power = POWERS - 2; power >= 0; --power)
            tail = _mm512_fmadd_ps(tail, apart, looked_up(power, segment));
        return _mm512_fnmadd_ps(size, tail, _mm512_max_ps(x, _mm512_setzero_ps()));
    }

   private:
    static constexpr int POWERS = 6;
    static constexpr double WIDTH = 5.0 / LANES;

    __m512 looked_up(int power, __m512i segment) const {
        return _mm512_permutexvar_ps(segment, _mm512_load_ps(coefficients_[power]));
    }

    alignas(64) float coefficients_[POWERS][LANES];
};

// u8 = clamp(round_half_even(x * inverse) + zero, 0, 255): model_store/FORMAT.md, "Arithmetic".
inline void store_rounded(uint8_t* out, __m512 x, __m512 inverse, __m512i zero) {
    const __m512 scaled = _mm512_min_ps(_mm512_mul_ps(x, inverse), _mm512_set1_ps(512.0f));  // no integer overflows
    const __m512i rounded = _mm512_cvtps_epi32(scaled);  // halves to even; what is below all integers becomes the least
    const __m512i shifted = _mm512_max_epi32(_mm512_add_epi32(rounded, zero), _mm512_setzero_si512());
    _mm_store_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtusepi32_epi8(shifted));
}

// One row of `width` floats (a multiple of 16, zeros behind the first `count`) normalized over its first `count`;
// `take(column, values)` gets what comes out, sixteen at a time, zeros behind `count`.
template <class Take>
inline void layer_norm(const float* row, int count, int width, const float* weight, const float* bias, float epsilon,
                       Take&& take) {
    __m512 sum = _mm512_setzero_ps();
    for (int at = 0; at < width; at += LANES) sum = _mm512_add_ps(sum, _mm512_load_ps(row + at));
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / float(count));
    __m512 squares = _mm512_setzero_ps();
    for (int at = 0; at < width; at += LANES) {
        const __m512 apart = _mm512_maskz_sub_ps(lanes_below(at, count), _mm512_load_ps(row + at), mean);
        squares = _mm512_fmadd_ps(apart, apart, squares);
    }
    const __m512 factor = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / float(count) + epsilon));
    for (int at = 0; at < width; at += LANES) {
        const __m512 apart = _mm512_sub_ps(_mm512_load_ps(row + at), mean);
        const __m512 scaled = _mm512_mul_ps(_mm512_mul_ps(apart, factor), _mm512_load_ps(weight + at));
        take(at, _mm512_add_ps(scaled, _mm512_load_ps(bias + at)));  // weight and bias are zero behind `count`
    }
}

inline float dot(const float* a, const float* b, int width) {
    __m512 sum = _mm512_setzero_ps();
    for (int at = 0; at < width; at += LANES) sum = _mm512_fmadd_ps(_mm512_load_ps(a + at), _mm512_load_ps(b + at), sum);
    return _mm512_reduce_add_ps(sum);
}

// Columns of 16 x 16 floats as vectors; rows of `in` from `rows` on are not read, and count as zeros.
inline void transpose(const float* in, size_t stride, int rows, __m512 (&columns)[LANES]) {
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

}  // namespace leeway
