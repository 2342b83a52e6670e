// BERT's word pieces (Devlin et al. 2019, "BERT", section 3): a text to ids and places.  reading/word_pieces.py has its use.
#pragma once

#include <stdint.h>

#include "lines.h"

namespace leeway {

constexpr int32_t FOREIGN = -1;  // in place of an id: a word with characters that are not ASCII
constexpr int MOST_WORD = 255;   // bytes of a word that is looked up

// Letters and digits make words together with all that is not ASCII, every other mark is one for itself.  Of control
// characters the normalizer makes nothing, so that what stands on both sides is one word: no text for this.
enum ByteKind : uint8_t { CONTROL, SPACE, MARK, LETTER };

inline ByteKind byte_kind(uint8_t byte) {
    if (byte >= 0x80) return LETTER;
    if (byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r') return SPACE;
    if (byte < 0x20 || byte == 0x7F) return CONTROL;
    const uint8_t lower = byte | 0x20;
    const bool letter = (lower >= 'a' && lower <= 'z') || (byte >= '0' && byte <= '9');
    return letter ? LETTER : MARK;
}

// Where pieces go: `ids`, `starts`, `ends` [at least as many as the text has bytes].  Places are code points.
struct Split {
    int32_t *ids, *starts, *ends;
    int count;

    void add(int32_t id, int32_t start, int32_t end) {
        ids[count] = id;
        starts[count] = start;
        ends[count++] = end;
    }
};

// Greedy longest match first (Wu et al. 2016, section 4.1), by a hash table of all pieces.
class WordPieces {
   public:
    // `bytes`: the pieces one after the other, in lower case and without prefix; piece i ends before `ends[i]`.  The first
    // `whole` of them begin words, the others go on with one.  `longest_word`: at most MOST_WORD; a longer word is unknown.
    WordPieces(const uint8_t* bytes, const int32_t* ends, const int32_t* ids, int count, int whole, int32_t unknown,
               int longest_word)
        : mask_(slots(count) - 1),
          table_(mask_ + 1),
          bytes_(count ? size_t(ends[count - 1]) : 0),
          unknown_(unknown),
          longest_word_(longest_word) {
        if (!has_memory()) return;
        if (count) memcpy(bytes_.get(), bytes, size_t(ends[count - 1]));
        for (int i = 0, first = 0; i < count; first = ends[i++]) enter(first, ends[i] - first, i >= whole, ids[i]);
    }

    bool has_memory() const { return table_.get() != nullptr && bytes_.get() != nullptr; }

    // False for a text with control characters.  `text`: UTF-8.
    bool split(const uint8_t* text, int size, Split& found) const {
        int32_t point = 0;
        for (int at = 0; at < size;) {
            const ByteKind kind = byte_kind(text[at]);
            if (kind == CONTROL) return false;
            if (kind == SPACE) {
                ++at;
                ++point;
                continue;
            }
            int end = at;
            int32_t end_point = point;
            bool foreign = false;
            do {
                foreign |= text[end] >= 0x80;
                end_point += (text[end] & 0xC0) != 0x80;  // no code point begins with such a byte
                ++end;
            } while (kind == LETTER && end < size && byte_kind(text[end]) == LETTER);
            if (foreign) found.add(FOREIGN, point, end_point);
            else add_word(text + at, end - at, point, found);
            at = end;
            point = end_point;
        }
        return true;
    }

   private:
    struct Entry {
        uint32_t hash;
        int32_t first, length;  // of its bytes; no piece, and so no entry, has none
        int32_t id;
    };

    static constexpr uint32_t BEGINS = 2166136261u, GOES_ON = 84696351u;  // seeds of FNV-1a

    static uint32_t hashed(uint32_t hash, uint8_t byte) { return (hash ^ byte) * 16777619u; }

    static size_t slots(int count) {
        size_t size = 64;
        while (size < 2 * size_t(count)) size *= 2;
        return size;
    }

    void enter(int first, int length, bool goes_on, int32_t id) {
        if (length == 0) return;
        uint32_t hash = goes_on ? GOES_ON : BEGINS;
        for (int k = 0; k < length; ++k) hash = hashed(hash, bytes_.get()[first + k]);
        size_t slot = hash & mask_;
        while (table_.get()[slot].length != 0) slot = (slot + 1) & mask_;
        table_.get()[slot] = {hash, first, goes_on ? -length : length, id};
        if (length > longest_piece_) longest_piece_ = length;
    }

    // Its id, or FOREIGN, which none has.  `length` is negative for a piece that goes on with a word.
    int32_t find(uint32_t hash, const uint8_t* piece, int length) const {
        const size_t size = size_t(length < 0 ? -length : length);
        for (size_t slot = hash & mask_;; slot = (slot + 1) & mask_) {
            const Entry& entry = table_.get()[slot];
            if (entry.length == 0) return FOREIGN;
            const bool alike = entry.hash == hash && entry.length == length;
            if (alike && memcmp(bytes_.get() + entry.first, piece, size) == 0) return entry.id;
        }
    }

    void add_word(const uint8_t* word, int length, int32_t point, Split& found) const {
        if (length > longest_word_) return found.add(unknown_, point, point + length);
        uint8_t lower[MOST_WORD];
        uint32_t hashes[MOST_WORD];
        for (int k = 0; k < length; ++k) lower[k] = word[k] >= 'A' && word[k] <= 'Z' ? word[k] | 0x20 : word[k];
        const int before = found.count;
        for (int first = 0; first < length;) {
            const bool goes_on = first > 0;
            const int most = length - first < longest_piece_ ? length - first : longest_piece_;
            uint32_t hash = goes_on ? GOES_ON : BEGINS;
            for (int k = 0; k < most; ++k) hashes[k] = hash = hashed(hash, lower[first + k]);
            int size = most;
            int32_t id = FOREIGN;
            for (; size > 0; --size) {
                id = find(hashes[size - 1], lower + first, goes_on ? -size : size);
                if (id != FOREIGN) break;
            }
            if (size == 0) {  // pieces do not make it up
                found.count = before;
                return found.add(unknown_, point, point + length);
            }
            found.add(id, point + first, point + first + size);
            first += size;
        }
    }

    size_t mask_;
    Lines<Entry> table_;
    Lines<uint8_t> bytes_;
    int32_t unknown_;
    int longest_word_;
    int longest_piece_ = 0;
};

}  // namespace leeway
