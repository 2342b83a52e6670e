// The length-adaptive encoder, one window at a time: model_store/FORMAT.md, "Arithmetic" and "Dropping tokens".
//
// A layer takes two steps, and within each the rows of a window are independent of each other:
//
//   attending       attention, its output product, residual, norm, significance      needs all keys and values
//                   (a bilinear one behind the step, as it needs the question's rows)
//   feeding forward of the kept rows: feed-forward part, residual, norm, logits,     needs the ranking
//                   and the next layer's query, key and value
//
// A piece of rows goes through a whole step while it is in the cache, from bytes to bytes: what stands between two
// products (scale, bias, GELU, residual, norm, rounding to the next product's bytes) never makes a pass of its own
// over the window.
#pragma once

#include <algorithm>

#include "attention.h"
#include "lines.h"
#include "model.h"
#include "team.h"

namespace leeway {

constexpr int PIECE = 64;  // most rows of a piece: what a member's buffers hold
constexpr int AIM = 48;    // rows of a piece: enough work for each line of weights that is read, yet fitting the cache

template <class Arithmetic>
class Encoder {
   public:
    using Stored = typename Arithmetic::Stored;

    Encoder(const Model& model, int threads)
        : model_(model),
          team_(threads),
          most_(padded(model.positions, BLOCK)),
          hidden_(size_t(most_) * model.hidden_width),
          attended_(size_t(most_) * model.hidden_width),
          queries_(size_t(most_) * model.attention_width),
          keys_(size_t(model.heads) * model.head_width * (most_ + LANES)),
          values_(size_t(model.heads) * model.head_width * most_),
          scores_(most_),
          asked_(model.hidden_width),
          vector_(model.hidden_width),
          ranks_(most_),
          places_(2 * most_),
          chosen_(most_),
          bytes_(size_t(team_.size()) * PIECE * widest(model)),
          inner_(size_t(team_.size()) * PIECE * model.inner_width),
          rows_(size_t(team_.size()) * PIECE * 2 * model.attention_width),
          member_scores_(size_t(team_.size()) * QUERIES * (most_ + LANES)),
          weights_(size_t(team_.size()) * QUERIES * (most_ + LANES)),
          received_(size_t(pieces(most_)) * most_) {}

    bool has_memory() const {
        return hidden_.get() && attended_.get() && queries_.get() && keys_.get() && values_.get() && scores_.get() &&
               asked_.get() && vector_.get() && ranks_.get() && places_.get() && chosen_.get() && bytes_.get() && inner_.get() && rows_.get() &&
               member_scores_.get() && weights_.get() && received_.get();
    }

    int threads() const { return team_.size(); }

    void run(const Window& window) {
        window_ = window;
        places_now_ = places_.get();
        places_next_ = places_.get() + most_;
        for (int row = 0; row < window.count; ++row) places_now_[row] = row;
        count_ = window.count;
        team_.begin();
        share<&Encoder::embed>(count_);
        for (layer_ = 0; layer_ < model_.layers; ++layer_) {
            kept_ = std::min(count_, int(window.kept[layer_]));
            share<&Encoder::attend_piece>(count_);
            choose();
            share<&Encoder::feed_forward>(kept_);
            count_ = kept_;
            std::swap(places_now_, places_next_);
        }
        team_.end();
    }

   private:
    static constexpr int TOGETHER = Arithmetic::TOGETHER;

    const Layer& layer() const { return model_.layer[layer_]; }
    size_t key_stride(int count) const { return size_t(padded(count, KEYS) | LANES); }  // odd in lines: no set is crowded
    bool drops() const { return kept_ < count_; }
    bool sums_attention() const { return drops() && (model_.significance == ALL || model_.significance == QUESTION); }

    static int widest(const Model& model) { return std::max(model.hidden_width, model.attention_width); }
    Byte* bytes(int member) { return bytes_.get() + size_t(member) * PIECE * widest(model_); }

    int pieces(int rows) const {
        const int size = team_.size();
        return std::min(rows, size * ((rows + size * AIM - 1) / (size * AIM)));
    }

    // First row of a piece: even, as neighbours may be stored together; of the one behind the last, all rows.  Where there
    // are as many pieces as rows, every other one is empty.
    int bound(int piece) const {
        return piece == pieces_ ? rows_of_step_ : int(int64_t(rows_of_step_) * piece / pieces_) & ~1;
    }

    // Runs one step over `rows` rows, in pieces of nearly equal size.
    template <void (Encoder::*STEP)(int first, int last, int piece, int member)>
    void share(int rows) {
        rows_of_step_ = rows;
        pieces_ = pieces(rows);
        team_.share(
            [](void* self, int piece, int member) {
                Encoder& encoder = *static_cast<Encoder*>(self);
                (encoder.*STEP)(encoder.bound(piece), encoder.bound(piece + 1), piece, member);
            },
            this, pieces_);
    }

    void embed(int first, int last, int, int member) {
        const int width = model_.hidden_width;
        for (int row = first; row < last; ++row) {
            float* out = hidden_.get() + size_t(row) * width;
            const int32_t id = window_.ids[row];
            const int8_t* word = model_.words + size_t(id) * model_.hidden;
            const Floats scale = spread(model_.word_scales[id]);
            const float* position = model_.position_rows + size_t(row) * width;
            const float* segment = model_.segment_rows + (row >= window_.segment_start ? width : 0);
            for (int at = 0; at < width; at += LANES) {
                const Floats value = multiply(load_bytes(word + at, model_.hidden - at), scale);
                store(out + at, add(add(value, load(position + at)), load(segment + at)));
            }
            finish(row, first, row, out, model_.norm_weight, model_.norm_bias, model_.layer, member);
        }
        project(first, last, model_.layer[0].qkv, window_.count, member);
    }

    // Norm of a row, its logits, and its bytes for the next layer's query, key and value, if there is one.
    void finish(int row, int first, int place, float* out, const float* weight, const float* bias, const Layer* next,
                int member) {
        const int width = model_.hidden_width;
        Byte* line = bytes(member) + size_t(row - first) * width;
        const Integers zero = spread(next ? next->qkv.zero : 0);
        Floats start = zeros(), end = zeros();
        layer_norm(out, model_.hidden, width, weight, bias, model_.epsilon, [&](int at, Floats value) {
            store(out + at, value);
            start = multiply_add(value, load(model_.head_weight + at), start);
            end = multiply_add(value, load(model_.head_weight + width + at), end);
            if (next) store_rounded(line + at, value, load(next->qkv.inverse + at), zero);
        });
        window_.start[place] = sum_of(start) + model_.head_bias[0];
        window_.end[place] = sum_of(end) + model_.head_bias[1];
    }

    // Query, key and value of rows whose bytes are in the member's buffer; `count` rows will be attended to.
    void project(int first, int last, const Linear& qkv, int count, int member) {
        const int width = model_.attention_width;
        float* keys = rows_.get() + size_t(member) * PIECE * 2 * width;
        float* values = keys + size_t(PIECE) * width;
        product(qkv, bytes(member), last - first, [&](int row, int column, Floats value) {
            const int part = column / width, at = column % width;
            if (part == 0)
                Arithmetic::store(queries_.get() + size_t(first + row) * width + at, value);
            else
                store((part == 1 ? keys : values) + size_t(row) * width + at, value);
        });
        store_keys(keys, first, last - first, key_stride(count));
        store_values(values, first, last - first);
    }

    void store_keys(const float* keys, int first, int rows, size_t stride) {
        const int width = model_.attention_width, real = model_.heads * model_.head_width;
        Floats columns[LANES];
        for (int at = 0; at < real; at += LANES)
            for (int row = 0; row < rows; row += LANES) {
                transpose(keys + size_t(row) * width + at, width, rows - row, columns);
                Stored* out = keys_.get() + at * stride + size_t(first + row) * TOGETHER;
                for (int column = 0; column < LANES; column += TOGETHER)
                    store_some(reinterpret_cast<float*>(out + column * stride), lanes_below(row, rows),
                               Arithmetic::interleaved(columns + column));
            }
    }

    void store_values(const float* values, int first, int rows) {
        const int width = model_.attention_width, head_width = model_.head_width;
        for (int row = 0; row < rows; row += TOGETHER)
            for (int at = 0; at < model_.heads * head_width; at += LANES) {
                Floats neighbours[TOGETHER];
                for (int next = 0; next < TOGETHER; ++next)
                    neighbours[next] = row + next < rows ? load(values + size_t(row + next) * width + at) : zeros();
                Stored* head = values_.get() + size_t(at / head_width) * head_width * most_;
                store_stored(head + size_t(first + row) * head_width + at % head_width * TOGETHER,
                             Arithmetic::interleaved(neighbours));
            }
    }

    void attend_piece(int first, int last, int piece, int member) {
        const int width = model_.hidden_width;
        if (sums_attention()) std::fill_n(received_.get() + size_t(piece) * most_, count_, 0.0f);
        for (int head = 0; head < model_.heads; ++head) attend_head(head, first, last, piece, member);
        const float* before = hidden_.get() + size_t(first) * width;
        float* after = attended_.get() + size_t(first) * width;
        product(layer().attention_output, bytes(member), last - first, [&](int row, int column, Floats value) {
            const size_t at = size_t(row) * width + column;
            store(after + at, add(value, load(before + at)));
        });
        for (int row = first; row < last; ++row) {
            float* out = attended_.get() + size_t(row) * width;
            layer_norm(out, model_.hidden, width, layer().attention_norm_weight, layer().attention_norm_bias, model_.epsilon,
                       [&](int at, Floats value) { store(out + at, value); });
            if (drops() && model_.significance == LEARNED)
                scores_.get()[row] = dot(out, layer().significance_weight, width) + layer().significance_bias;
        }
    }

    // Queries of one head; their mixed values become bytes for the output product, in the member's buffer.
    void attend_head(int index, int first, int last, int piece, int member) {
        const Linear& next = layer().attention_output;
        const int width = model_.attention_width, offset = index * model_.head_width;
        const size_t stride = key_stride(count_), buffer = size_t(member) * QUERIES * (most_ + LANES);
        const Head<Arithmetic> head = {keys_.get() + offset * stride, values_.get() + size_t(offset) * most_, stride,
                                       model_.head_width, count_};
        Attended<Arithmetic> attended = {member_scores_.get() + buffer, weights_.get() + buffer, {}, {}};
        const Integers zero = spread(next.zero);
        for (int row = first; row < last; row += QUERIES) {
            const int rows = std::min(QUERIES, last - row);
            attend(rows, head, queries_.get() + size_t(row) * width + offset, width, attended);
            Byte* out = bytes(member) + size_t(row - first) * width + offset;
            for (int inside = 0; inside < rows; ++inside)
                for (int at = 0; at < model_.head_width; at += LANES)
                    store_rounded(out + size_t(inside) * width + at, load(attended.out + inside * model_.head_width + at),
                                  load(next.inverse + offset + at), zero);
            if (sums_attention()) receive(row, rows, attended, received_.get() + size_t(piece) * most_);
        }
    }

    // Adds the attention of those of `rows` queries that ask.
    void receive(int row, int rows, const Attended<Arithmetic>& attended, float* sums) {
        const size_t stride = key_stride(count_);
        for (int inside = 0; inside < rows; ++inside) {
            if (!asks(places_now_[row + inside])) continue;
            const Floats factor = spread(attended.factors[inside]);
            for (int at = 0; at < count_; at += LANES) {  // weights are zero behind the last key
                const Floats weights = Arithmetic::load(attended.weights + inside * stride + at);
                store(sums + at, multiply_add(weights, factor, load(sums + at)));
            }
        }
    }

    // Whether the token at a place makes others significant: by its attention, or its part in the question's mean state.
    bool asks(int place) const {
        return model_.significance == ALL || (place > 0 && place < window_.segment_start - 1);
    }

    // The rows that the layer keeps, in their order; of two equally significant ones the earlier goes first.
    void choose() {
        int32_t* chosen = chosen_.get();
        if (!drops()) {
            for (int row = 0; row < count_; ++row) chosen[row] = row;
        } else {
            if (sums_attention()) add_up();
            if (model_.significance == BILINEAR) ask();
            for (int row = 0; row < count_; ++row) ranks_.get()[row] = rank(scores_.get()[row], row);
            std::nth_element(ranks_.get(), ranks_.get() + (count_ - kept_), ranks_.get() + count_);
            const uint64_t least = ranks_.get()[count_ - kept_];
            for (int row = 0, taken = 0; row < count_; ++row)
                if (rank(scores_.get()[row], row) >= least) chosen[taken++] = row;
        }
        for (int row = 0; row < kept_; ++row) places_next_[row] = places_now_[chosen[row]];
    }

    void add_up() {
        const int pieces = pieces_;
        std::fill_n(scores_.get(), count_, 0.0f);
        for (int piece = 0; piece < pieces; ++piece)
            for (int row = 0; row < count_; ++row) scores_.get()[row] += received_.get()[size_t(piece) * most_ + row];
    }

    // Scores of all rows by a vector that the question's mean state makes.  It needs every row of the question, so it is no
    // part of a piece; a row costs one product of vectors.
    void ask() {
        const int width = model_.hidden_width;
        float *mean = asked_.get(), *vector = vector_.get();
        std::fill_n(mean, width, 0.0f);
        int asking = 0;
        for (int row = 0; row < count_; ++row) {
            if (!asks(places_now_[row])) continue;
            add_to(mean, attended_.get() + size_t(row) * width, 1.0f);
            ++asking;
        }
        std::copy_n(layer().significance_weight, width, vector);
        for (int at = 0; asking && at < model_.significance_rank; ++at) {
            const float factor = dot(mean, layer().significance_question + size_t(at) * width, width) / float(asking);
            add_to(vector, layer().significance_token + size_t(at) * width, factor);
        }
        for (int row = 0; row < count_; ++row)
            scores_.get()[row] = dot(attended_.get() + size_t(row) * width, vector, width) + layer().significance_bias;
    }

    void add_to(float* sum, const float* row, float factor) const {
        for (int at = 0; at < model_.hidden_width; at += LANES)
            store(sum + at, multiply_add(load(row + at), spread(factor), load(sum + at)));
    }

    // Unsigned integers in the order of the scores, and of equal scores the earlier row higher.
    static uint64_t rank(float score, int row) {
        const float plain = score + 0.0f;  // -0 becomes 0
        uint32_t bits;
        memcpy(&bits, &plain, sizeof bits);
        bits ^= bits >> 31 ? 0xFFFFFFFFu : 0x80000000u;
        return uint64_t(bits) << 32 | (0xFFFFFFFFu - uint32_t(row));
    }

    void feed_forward(int first, int last, int, int member) {
        const int width = model_.hidden_width, inner_width = model_.inner_width;
        const Linear &intermediate = layer().intermediate, &output = layer().output;
        const Layer* next = layer_ + 1 < model_.layers ? &layer() + 1 : nullptr;
        const int32_t* chosen = chosen_.get() + first;
        Byte* in = bytes(member);
        const Integers in_zero = spread(intermediate.zero);
        for (int row = 0; row < last - first; ++row) {
            const float* source = attended_.get() + size_t(chosen[row]) * width;
            for (int at = 0; at < width; at += LANES)
                store_rounded(in + size_t(row) * width + at, load(source + at), load(intermediate.inverse + at), in_zero);
        }
        Byte* inner = inner_.get() + size_t(member) * PIECE * inner_width;
        const Integers zero = spread(output.zero);
        product(intermediate, in, last - first, [&](int row, int column, Floats value) {
            store_rounded(inner + size_t(row) * inner_width + column, gelu_(value),
                          load(output.inverse + column), zero);
        });
        float* out = hidden_.get() + size_t(first) * width;
        product(output, inner, last - first, [&](int row, int column, Floats value) {
            const float* residual = attended_.get() + size_t(chosen[row]) * width + column;
            store(out + size_t(row) * width + column, add(value, load(residual)));
        });
        for (int row = first; row < last; ++row)
            finish(row, first, places_next_[row], hidden_.get() + size_t(row) * width, layer().output_norm_weight,
                   layer().output_norm_bias, next, member);
        if (next) project(first, last, next->qkv, kept_, member);
    }

    const Model model_;
    const Gelu gelu_;
    Team team_;
    const int most_;  // rows that the buffers hold
    Lines<float> hidden_, attended_;
    Lines<Stored> queries_, keys_, values_;
    Lines<float> scores_;
    Lines<float> asked_, vector_;  // of a bilinear significance: sum over the question's rows, what scores all rows
    Lines<uint64_t> ranks_;
    Lines<int32_t> places_, chosen_;
    Lines<Byte> bytes_, inner_;  // of each member: the inputs of a product
    Lines<float> rows_;             // of each member: keys and values before they are stored
    Lines<float> member_scores_;    // of each member: attention before and after the softmax
    Lines<Stored> weights_;
    Lines<float> received_;         // of each piece: attention that each token received

    Window window_ = {};
    int32_t *places_now_ = nullptr, *places_next_ = nullptr;
    int layer_ = 0, count_ = 0, kept_ = 0, pieces_ = 0, rows_of_step_ = 0;
};

}  // namespace leeway
