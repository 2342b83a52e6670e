// What an encoder is made of, and what it is asked.
#pragma once

#include "products.h"

namespace leeway {

// The layouts of these are native_tensors.py's `LayerStructure` and `ModelStructure`.  Widths are padded with zeros: heads to
// multiples of 16, all others of 64.
struct Layer {
    Linear qkv, attention_output, intermediate, output;
    const float *attention_norm_weight, *attention_norm_bias, *output_norm_weight, *output_norm_bias;
    const float* significance_weight;  // learned and bilinear significance, else null
    const float *significance_question, *significance_token;  // [significance_rank][hidden_width]: bilinear, else null
    float significance_bias;
};

enum Significance : int32_t { ALL = 0, QUESTION = 1, LEARNED = 2, BILINEAR = 3 };

struct Model {
    int32_t layers, hidden, hidden_width, heads, head_width, attention_width, inner_width, positions;
    Significance significance;
    int32_t significance_rank;
    float epsilon;
    const int8_t* words;  // [vocabulary][hidden], not padded
    const float* word_scales;
    const float *position_rows, *segment_rows;  // [...][hidden_width]
    const float *norm_weight, *norm_bias;
    const float *head_weight, *head_bias;  // [2][hidden_width], [2]
    const Layer* layer;
};

struct Window {
    const int32_t* ids;
    int count, segment_start;
    const int32_t* kept;  // [layers]
    float *start, *end;   // [count]
};

}  // namespace leeway
