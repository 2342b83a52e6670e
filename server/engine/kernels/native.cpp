// What native.py calls.  Shapes, ids and lengths are checked there, and one call at a time is seen to; nothing here throws.
#include <new>

#include "encoder.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Rises with every change of a structure or function below.
EXPORTED int leeway_native_version() { return 1; }

// Sizes of the structures, for a comparison with those of the caller.
EXPORTED int leeway_native_model_bytes() { return int(sizeof(leeway::Model)); }
EXPORTED int leeway_native_layer_bytes() { return int(sizeof(leeway::Layer)); }

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

// Null where memory ran out.  `bfloat16`: attention's products in bfloat16, for processors with AVX512-BF16; else in
// float32.  Everything that `model` points at must outlive the encoder.
EXPORTED void* leeway_native_create(const leeway::Model* model, int threads, int bfloat16) {
    auto* handle = static_cast<leeway::Handle*>(malloc(sizeof(leeway::Handle)));
    if (handle == nullptr) return nullptr;
    const bool made = bfloat16 ? leeway::make<leeway::BFloat16>(*model, threads, *handle)
                               : leeway::make<leeway::Float32>(*model, threads, *handle);
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
