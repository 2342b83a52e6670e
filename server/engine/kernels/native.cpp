// What native.py, skimming.py and reading/kernels.py call.  Shapes, ids and lengths are checked there, and that an
// encoder has one call at a time; nothing here throws.
#include <new>

#include "encoder.h"
#include "pieces.h"
#include "skim.h"
#include "spans.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Rises with every change of a structure or function below.
EXPORTED int leeway_native_version() { return 4; }

// Sizes of the structures, for a comparison with those of the caller.
EXPORTED int leeway_native_model_bytes() { return int(sizeof(leeway::Model)); }
EXPORTED int leeway_native_layer_bytes() { return int(sizeof(leeway::Layer)); }

// How weights are packed: columns of a panel, and inputs of a column that lie side by side (products.h, `Linear`).
EXPORTED int leeway_native_panel() { return leeway::PANEL; }
EXPORTED int leeway_native_side_by_side() { return leeway::SIDE_BY_SIDE; }

namespace leeway {

// An encoder of either arithmetic behind plain functions.
struct Handle {
    void* encoder;
    void (*run)(void* encoder, const Window& window);
    int (*threads)(void* encoder);
    void (*destroy)(void* encoder);
};

// False where memory ran out.
template <class Arithmetic>
bool make(const Model& model, int threads, Handle& handle) {
    using Made = Encoder<Arithmetic>;
    void* place = aligned_alloc(64, (sizeof(Made) + 63) / 64 * 64);
    if (place == nullptr) return false;
    handle = {new (place) Made(model, threads),
              [](void* encoder, const Window& window) { static_cast<Made*>(encoder)->run(window); },
              [](void* encoder) { return static_cast<Made*>(encoder)->threads(); },
              [](void* encoder) {
                  static_cast<Made*>(encoder)->~Made();
                  free(encoder);
              }};
    if (static_cast<Made*>(handle.encoder)->has_memory()) return true;
    handle.destroy(handle.encoder);
    return false;
}

}  // namespace leeway

// Null where memory ran out.  `bfloat16`: attention's products in bfloat16, for processors with AVX512-BF16 (a library that
// was compiled without it makes nothing then); else in float32.  Everything that `model` points at must outlive the
// encoder.
EXPORTED void* leeway_native_create(const leeway::Model* model, int threads, int bfloat16) {
    auto* handle = static_cast<leeway::Handle*>(malloc(sizeof(leeway::Handle)));
    if (handle == nullptr) return nullptr;
#ifdef __AVX512BF16__
    const bool made = bfloat16 ? leeway::make<leeway::BFloat16>(*model, threads, *handle)
                               : leeway::make<leeway::Float32>(*model, threads, *handle);
#else
    const bool made = !bfloat16 && leeway::make<leeway::Float32>(*model, threads, *handle);
#endif
    if (made) return handle;
    free(handle);
    return nullptr;
}

EXPORTED int leeway_native_threads(const void* handle) {
    const auto* made = static_cast<const leeway::Handle*>(handle);
    return made->threads(made->encoder);
}

// `ids` [count]; `kept` [layers]; `start` and `end` [count] take the logits.
EXPORTED void leeway_native_run(void* handle, const int32_t* ids, int count, int segment_start, const int32_t* kept,
                                float* start, float* end) {
    const auto* made = static_cast<const leeway::Handle*>(handle);
    made->run(made->encoder, {ids, count, segment_start, kept, start, end});
}

EXPORTED void leeway_native_destroy(void* handle) {
    auto* made = static_cast<leeway::Handle*>(handle);
    made->destroy(made->encoder);
    free(made);
}

// Null where memory ran out.  What the parameters are: pieces.h; nothing is kept of them.
EXPORTED void* leeway_pieces_create(const uint8_t* bytes, const int32_t* ends, const int32_t* ids, int count, int whole,
                                    int32_t unknown, int longest_word) {
    void* place = aligned_alloc(64, (sizeof(leeway::WordPieces) + 63) / 64 * 64);
    if (place == nullptr) return nullptr;
    auto* pieces = new (place) leeway::WordPieces(bytes, ends, ids, count, whole, unknown, longest_word);
    if (pieces->has_memory()) return pieces;
    pieces->~WordPieces();
    free(place);
    return nullptr;
}

// How many pieces `text` (UTF-8, `size` bytes) has; -1 for one with control characters.  `rows` [3][size] takes their ids,
// first code points and those past the last; may be called by many threads at once.
EXPORTED int leeway_pieces_split(const void* pieces, const uint8_t* text, int size, int32_t* rows) {
    leeway::Split found{rows, rows + size, rows + 2 * size_t(size), 0};
    return static_cast<const leeway::WordPieces*>(pieces)->split(text, size, found) ? found.count : -1;
}

EXPORTED void leeway_pieces_destroy(void* pieces) {
    static_cast<leeway::WordPieces*>(pieces)->~WordPieces();
    free(pieces);
}

// 1, or 0 where there is nothing to be found this way.  The parameters: spans.h.
EXPORTED int leeway_best_span(const float* start, const float* end, int size, int skipped, int count, int width,
                              leeway::BestSpan* found) {
    return leeway::best_span(start, end, size, skipped, count, width, *found);
}

// Floats of memory that `leeway_skim_scores` needs; 0 for numbers of tokens that it refuses.
EXPORTED size_t leeway_skim_room(int asked, int count) {
    if (!leeway::is_skimmable(asked, count)) return 0;
    return leeway::Skimming({}, nullptr, asked, nullptr, count, nullptr).room();
}

// 1, or 0 for numbers of tokens that are none.  The parameters: skim.h.  May be called by many threads at once, each
// with a `memory` of its own.
EXPORTED int leeway_skim_scores(const leeway::SkimTensors* tensors, const int32_t* question, int asked,
                                const int32_t* text, int count, float* memory, float* scores) {
    if (!leeway::is_skimmable(asked, count)) return 0;
    leeway::Skimming(*tensors, question, asked, text, count, memory).run(scores);
    return 1;
}
