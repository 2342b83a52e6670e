// What native.py calls.  Shapes and pointers are checked there; nothing here throws.
#include <new>

#include "encoder.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Rises with every change of a structure or function below.
EXPORTED int leeway_native_version() { return 1; }

// Sizes of the structures, for a comparison with those of the caller.
EXPORTED int leeway_native_model_bytes() { return int(sizeof(leeway::Model)); }
EXPORTED int leeway_native_layer_bytes() { return int(sizeof(leeway::Layer)); }

// Null where memory ran out.  Everything that `model` points at must outlive the encoder.
EXPORTED void* leeway_native_create(const leeway::Model* model, int threads) {
    void* place = aligned_alloc(64, (sizeof(leeway::Encoder) + 63) / 64 * 64);
    if (place == nullptr) return nullptr;
    auto* encoder = new (place) leeway::Encoder(*model, threads);
    if (encoder->has_memory()) return encoder;
    encoder->~Encoder();
    free(place);
    return nullptr;
}

EXPORTED int leeway_native_threads(const void* encoder) { return static_cast<const leeway::Encoder*>(encoder)->threads(); }

EXPORTED void leeway_native_run(void* encoder, const int32_t* ids, int count, int segment_start, const int32_t* kept,
                                float* start, float* end) {
    static_cast<leeway::Encoder*>(encoder)->run({ids, count, segment_start, kept, start, end});
}

EXPORTED void leeway_native_destroy(void* encoder) {
    static_cast<leeway::Encoder*>(encoder)->~Encoder();
    free(encoder);
}
