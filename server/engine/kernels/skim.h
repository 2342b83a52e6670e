// The skimmer: how likely each token of a text is part of the answer to a question.  What it computes is in
// model_store/FORMAT.md, "skimmer.safetensors"; server/engine/skimmer.py calls it.
#pragma once

#include "products.h"

namespace leeway {

constexpr int CHANNELS = 64;  // of a token
constexpr int WAYS = 4;       // in which a token of the text may match one of the question
constexpr int QUESTION_TAPS = 5, TEXT_TAPS = 7;
constexpr int DILATIONS[] = {1, 2, 4, 2, 1};    // of the blocks over the text
constexpr int BESIDE = 12;                      // rows of zeros on either side of a text: so far the taps reach
constexpr int MIXED = 3 * CHANNELS + WAYS + 1;  // inputs of the mix: word, asked, both multiplied, matches, exact match
constexpr int MIXED_ROW = 208;                  // MIXED in whole cache lines
constexpr int STRETCH = 3 * PANEL;              // tokens mixed while they are in the cache: whole panels and groups
constexpr int MOST_SKIMMED = 1 << 16;           // tokens

struct SkimBlock {                  // its layout is skimming.py's `_BlockStructure`; each array begins a cache line
    const float *taps, *taps_bias;  // [taps][CHANNELS], [CHANNELS]
    const float *weight, *bias;     // [inputs][CHANNELS], [CHANNELS]
};

struct SkimTensors {                         // likewise `_TensorsStructure`
    const int8_t* words;                     // [vocabulary][CHANNELS]
    const float *scales, *rarity;            // [vocabulary]
    const float* match;                      // [WAYS][inputs of the question][CHANNELS of the text]
    const float* gate_weight;                // [CHANNELS]
    const float *gate, *gate_bias;           // [outputs][CHANNELS], [CHANNELS]
    const float *mix, *mix_bias;             // [MIXED][CHANNELS], [CHANNELS]
    const float* gated;                      // [inputs][CHANNELS]: times the gate, it joins the words' part of `mix`
    const float *score_weight, *score_bias;  // [CHANNELS], [1]
    SkimBlock question, blocks[sizeof DILATIONS / sizeof *DILATIONS];
};

inline bool is_skimmable(int asked, int count) {
    return asked > 0 && asked <= MOST_SKIMMED && count > 0 && count <= MOST_SKIMMED;
}

// A group of rows by one panel: bias + input . weight.  Inputs of a row are `step` apart, rows ROW, those of the weight
// COLUMNS.  A function of its own, as in avx512.h.
template <int ROW, int COLUMNS, class Take>
[[gnu::noinline]] void skim_tile(const float* input, size_t step, int inputs, const float* weight, const float* bias,
                                 Take take) {
    constexpr int VECTORS = PANEL / LANES;
    Floats sums[GROUP][VECTORS];
    UNROLLED for (int vector = 0; vector < VECTORS; ++vector) {
        const Floats first = bias ? load(bias + vector * LANES) : zeros();
        UNROLLED for (int row = 0; row < GROUP; ++row) sums[row][vector] = first;
    }
    for (int at = 0; at < inputs; ++at, input += step, weight += COLUMNS) {
        Floats columns[VECTORS];
        UNROLLED for (int vector = 0; vector < VECTORS; ++vector) columns[vector] = load(weight + vector * LANES);
        UNROLLED for (int row = 0; row < GROUP; ++row) {
            const Floats one = spread(input[row * ROW]);
            UNROLLED for (int vector = 0; vector < VECTORS; ++vector)
                sums[row][vector] = multiply_add(one, columns[vector], sums[row][vector]);
        }
    }
    UNROLLED for (int row = 0; row < GROUP; ++row)
        UNROLLED for (int vector = 0; vector < VECTORS; ++vector) take(row, vector * LANES, sums[row][vector]);
}

// `take(row, column, sixteen outputs)` for `rows` rows and `columns` outputs, both rounded up.
template <int ROW, int COLUMNS, class Take>
inline void skim_product(const float* input, size_t step, int rows, int inputs, const float* weight, const float* bias,
                         int columns, Take&& take) {
    for (int first = 0; first < columns; first += PANEL)
        for (int row = 0; row < rows; row += GROUP)
            skim_tile<ROW, COLUMNS>(
                input + size_t(row) * ROW, step, inputs, weight + first, bias ? bias + first : bias,
                [=](int inside, int column, Floats value) { take(row + inside, first + column, value); });
}

// One text and one question, `is_skimmable`; their ids are those of words that there are.  Buffers have whole groups of
// rows, and what comes out of those behind the last means nothing.
class Skimming {
   public:
    // `memory`: `room()` floats in cache lines; null where only the room is asked for.
    Skimming(const SkimTensors& tensors, const int32_t* question, int asked, const int32_t* text, int count,
             float* memory)
        : tensors_(tensors), question_(question), text_(text), asked_(asked), count_(count), memory_(memory) {
        const size_t asking = padded(asked, GROUP), read = padded(count, GROUP);
        beside_asking_ = taken((asking + 2 * BESIDE) * CHANNELS);
        beside_state_ = taken((read + 2 * BESIDE) * CHANNELS);
        seen_ = taken((asking > read ? asking : read) * CHANNELS);
        asked_by_ = taken(asking * WAYS * CHANNELS);
        matches_ = taken(asking * WAYS * STRETCH);
        columns_ = taken(CHANNELS * STRETCH);
        mixed_ = taken(STRETCH * MIXED_ROW);
        mix_ = taken(MIXED * CHANNELS);
        exact_ = taken(STRETCH);
    }

    size_t room() const { return room_; }

    // `scores` [count].
    void run(float* scores) {
        asking_ = beside_asking_ + BESIDE * CHANNELS;
        state_ = beside_state_ + BESIDE * CHANNELS;
        read_question();
        for (int first = 0; first < count_; first += STRETCH)
            mix(first, count_ - first < STRETCH ? count_ - first : STRETCH);
        clear_rows(beside_state_, BESIDE);
        clear_rows(state_ + size_t(count_) * CHANNELS, padded(count_, GROUP) - count_ + BESIDE);
        const SkimBlock* block = tensors_.blocks;
        for (const int dilation : DILATIONS) apply<TEXT_TAPS>(*block++, dilation, count_, state_);
        for (int row = 0; row < count_; ++row)
            scores[row] = dot(state_ + size_t(row) * CHANNELS, tensors_.score_weight, CHANNELS) + *tensors_.score_bias;
    }

   private:
    float* taken(size_t floats) {
        const size_t first = room_;
        room_ += (floats + LANES - 1) / LANES * LANES;
        return memory_ ? memory_ + first : nullptr;
    }

    static void clear_rows(float* rows, int count) { memset(rows, 0, size_t(count) * CHANNELS * sizeof(float)); }

    void read_words(const int32_t* ids, int count, float* rows, int stride) const {
        for (int row = 0; row < count; ++row, rows += stride) {
            const Floats scale = spread(tensors_.scales[ids[row]]);
            const int8_t* word = tensors_.words + size_t(ids[row]) * CHANNELS;
            for (int at = 0; at < CHANNELS; at += LANES)
                store(rows + at, multiply(load_bytes(word + at, LANES), scale));
        }
    }

    // state += relu(weight (taps * state) + bias); zeros lie on either side of its `count` rows, before and after.
    template <int TAPS>
    void apply(const SkimBlock& block, int dilation, int count, float* state) const {
        for (int at = 0; at < CHANNELS; at += LANES) {
            const Floats bias = load(block.taps_bias + at);
            Floats taps[TAPS];
            UNROLLED for (int tap = 0; tap < TAPS; ++tap) taps[tap] = load(block.taps + tap * CHANNELS + at);
            const float* first = state + at - TAPS / 2 * dilation * CHANNELS;
            for (int row = 0; row < count; ++row, first += CHANNELS) {
                Floats sum = bias;
                UNROLLED for (int tap = 0; tap < TAPS; ++tap)
                    sum = multiply_add(load(first + tap * dilation * CHANNELS), taps[tap], sum);
                store(seen_ + size_t(row) * CHANNELS + at, sum);
            }
        }
        skim_product<CHANNELS, CHANNELS>(seen_, 1, count, CHANNELS, block.weight, block.bias, CHANNELS,
                                         [=](int row, int column, Floats value) {
                                             float* at = state + size_t(row) * CHANNELS + column;
                                             store(at, add(load(at), greater(value, zeros())));
                                         });
        clear_rows(state + size_t(count) * CHANNELS, padded(count, GROUP) - count);
    }

    // Makes `asked_by_` [asked][WAYS][CHANNELS], whose products with the words of the text are the matches;
    // `asking_`, the question as its block reads it; and `mix_`.
    void read_question() {
        clear_rows(beside_asking_, padded(asked_, GROUP) + 2 * BESIDE);
        read_words(question_, asked_, asking_, CHANNELS);
        for (int way = 0; way < WAYS; ++way) {
            float* out = asked_by_ + way * CHANNELS;
            skim_product<CHANNELS, CHANNELS>(
                asking_, 1, asked_, CHANNELS, tensors_.match + way * CHANNELS * CHANNELS, nullptr, CHANNELS,
                [=](int row, int column, Floats value) { store(out + size_t(row) * WAYS * CHANNELS + column, value); });
        }
        apply<QUESTION_TAPS>(tensors_.question, 1, asked_, asking_);
        make_mix();
    }

    // The words' part of the mix depends on a gate, and that on the sum of softmax(gate_weight . row) row.
    void make_mix() {
        alignas(64) float gist[CHANNELS] = {};
        float most = -INFINITY, total = 0.0f, *shares = matches_;
        for (int j = 0; j < asked_; ++j) {
            shares[j] = dot(asking_ + size_t(j) * CHANNELS, tensors_.gate_weight, CHANNELS);
            most = shares[j] > most ? shares[j] : most;
        }
        for (int j = 0; j < asked_; ++j) {
            const float share = expf(shares[j] - most);
            for (int at = 0; at < CHANNELS; ++at) gist[at] += share * asking_[size_t(j) * CHANNELS + at];
            total += share;
        }
        memcpy(mix_, tensors_.mix, sizeof(float) * MIXED * CHANNELS);
        for (int input = 0; input < CHANNELS; ++input) {
            const size_t first = input * CHANNELS;
            const float gate = dot(gist, tensors_.gate + first, CHANNELS) / total + tensors_.gate_bias[input];
            for (size_t at = first; at < first + CHANNELS; ++at) mix_[at] += gate * tensors_.gated[at];
        }
    }

    // State of the `here` tokens from `first` on.
    void mix(int first, int here) {
        alignas(64) float factors[STRETCH];
        float *matches = matches_, *mixed = mixed_, *state = state_ + size_t(first) * CHANNELS;
        read_words(text_ + first, here, mixed, MIXED_ROW);
        turn_words(here);
        skim_product<CHANNELS, STRETCH>(
            asked_by_, 1, asked_ * WAYS, CHANNELS, columns_, nullptr, here,
            [=](int row, int column, Floats value) { store(matches + size_t(row) * STRETCH + column, value); });
        find_exact(text_ + first, here);
        for (int row = 0; row < here; row += LANES) soften(row, factors + row);
        skim_product<1, CHANNELS>(matches, WAYS * STRETCH, here, asked_, asking_, nullptr, CHANNELS,
                                  [=, &factors](int row, int column, Floats value) {
                                      float* word = mixed + row * MIXED_ROW + column;
                                      const Floats asked = multiply(value, spread(factors[row]));
                                      store(word + CHANNELS, asked);
                                      store(word + 2 * CHANNELS, multiply(asked, load(word)));
                                  });
        skim_product<MIXED_ROW, CHANNELS>(mixed, 1, here, MIXED, mix_, tensors_.mix_bias, CHANNELS,
                                          [=](int row, int column, Floats value) {
                                              store(state + row * CHANNELS + column, greater(value, zeros()));
                                          });
    }

    // Words of `mixed_` to `columns_` [CHANNELS][STRETCH]: a vector is then of sixteen tokens.
    void turn_words(int here) {
        for (int row = 0; row < padded(here, PANEL); row += LANES)
            for (int at = 0; at < CHANNELS; at += LANES) {
                Floats lines[LANES];
                transpose(mixed_ + row * MIXED_ROW + at, MIXED_ROW, here - row, lines);
                for (int line = 0; line < LANES; ++line) store(columns_ + (at + line) * STRETCH + row, lines[line]);
            }
    }

    void find_exact(const int32_t* ids, int here) {
        for (int j = 0; j < asked_; ++j) {
            const float rarity = tensors_.rarity[question_[j]];
            for (int row = 0; row < here; ++row) {
                const float match = ids[row] == question_[j] ? rarity : 0.0f;
                exact_[row] = j == 0 || match > exact_[row] ? match : exact_[row];
            }
        }
    }

    // Of sixteen tokens: `matches_` [asked][WAYS][STRETCH] become e^(match - best) in the first way, and `factors` 1 /
    // the sum of these; the best in every way and the exact match end the rows of `mixed_`.
    void soften(int row, float* factors) {
        alignas(64) float best[WAYS + 1][LANES], totals[LANES];
        for (int way = 0; way < WAYS; ++way) {
            const float* match = matches_ + way * STRETCH + row;
            Floats most = load(match);
            for (int j = 1; j < asked_; ++j) most = greater(most, load(match + size_t(j) * WAYS * STRETCH));
            store(best[way], most);
        }
        store(best[WAYS], load(exact_ + row));
        Floats total = zeros();
        for (int j = 0; j < asked_; ++j) {
            float* match = matches_ + size_t(j) * WAYS * STRETCH + row;
            const Floats power = exponential(subtract(load(match), load(best[0])));
            total = add(total, power);
            store(match, power);
        }
        store(totals, total);
        float* end = mixed_ + row * MIXED_ROW + 3 * CHANNELS;
        for (int lane = 0; lane < LANES; ++lane, end += MIXED_ROW) {
            factors[lane] = 1.0f / totals[lane];
            for (int way = 0; way <= WAYS; ++way) end[way] = best[way][lane];
        }
    }

    const SkimTensors& tensors_;
    const int32_t *question_, *text_;
    const int asked_, count_;
    float* const memory_;
    size_t room_ = 0;
    float *beside_asking_, *beside_state_, *asking_ = nullptr, *state_ = nullptr;  // behind BESIDE rows of zeros
    float *seen_, *asked_by_, *matches_, *columns_, *mixed_, *mix_, *exact_;
};

}  // namespace leeway
