// Memory for the kernels' aligned loads and stores.
#pragma once

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

namespace leeway {

// Memory in cache lines that frees itself; null where there was none to be had.
template <class T>
class Lines {
   public:
    explicit Lines(size_t count)
        : data_(static_cast<T*>(aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64 + 64))) {
        if (data_ != nullptr) memset(data_, 0, count * sizeof(T));
    }
    ~Lines() { free(data_); }
    Lines(const Lines&) = delete;
    Lines& operator=(const Lines&) = delete;
    T* get() const { return data_; }

   private:
    T* data_;
};

}  // namespace leeway
