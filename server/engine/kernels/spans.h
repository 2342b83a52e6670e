// The best answer span of a window, and the sum that its probability is of.  reading/spans.py calls it and says what is what.
#pragma once

#include <math.h>
#include <stdint.h>

namespace leeway {

constexpr int MOST_TOKENS = 1024;

struct BestSpan {  // its layout is reading/kernels.py's `BestSpan`
    double logit, total;  // `total`: of exp(logit - the best's) over all
    int32_t first, more;  // the first of its tokens, and how many follow
};

// Logits of a window [size], spans of at most `width` of its `count` tokens from `skipped` on; of equal ones the first, then
// the shortest.  False where there is none, where a logit is not finite, and where numbers leave what a double can hold.
inline bool best_span(const float* start, const float* end, int size, int skipped, int count, int width, BestSpan& found) {
    if (count < 1 || count > MOST_TOKENS || width < 1 || skipped < 0 || skipped + count > size) return false;
    for (int i = 0; i < size; ++i) {
        if (!isfinite(start[i]) || !isfinite(end[i])) return false;
    }
    start += skipped;
    end += skipped;
    double peak = -INFINITY;
    float most_start = start[0], most_end = end[0];
    for (int i = 0; i < count; ++i) {
        most_start = start[i] > most_start ? start[i] : most_start;
        most_end = end[i] > most_end ? end[i] : most_end;
        const int last = count - i < width ? count : i + width;
        float best = end[i];
        for (int j = i + 1; j < last; ++j) best = end[j] > best ? end[j] : best;
        const double logit = double(start[i]) + double(best);
        if (!(logit > peak)) continue;
        peak = logit;
        found.first = i;
    }
    // exp(start + end) = exp(start) exp(end): an exponential per token, and sums of positive numbers, which lose nothing
    const double beyond = double(most_start) + double(most_end) - peak;
    if (!(beyond < 500.0)) return false;
    double ends[MOST_TOKENS];
    for (int i = 0; i < count; ++i) ends[i] = exp(double(end[i]) - double(most_end));
    double total = 0.0;
    for (int i = 0; i < count; ++i) {
        const int last = count - i < width ? count : i + width;
        double sum = 0.0;
        for (int j = i; j < last; ++j) sum += ends[j];
        total += exp(double(start[i]) - double(most_start)) * sum;
    }
    found.logit = peak;
    found.total = total * exp(beyond);
    int more = 0;
    while (double(start[found.first]) + double(end[found.first + more]) != peak) ++more;
    found.more = more;
    return true;
}

}  // namespace leeway
