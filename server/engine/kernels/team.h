// A team of threads that share the rows of one step after another.
//
// Steps follow each other every few hundred microseconds, so the members spin between them and sleep only between runs.
// Pieces of a step are claimed, not assigned: what a member that the system has taken off its core has not claimed is done
// by the others, and the step waits only for the piece that it has in hand.
//
// One caller at a time: `begin`, `share` and `end` are no one else's while a run goes on.
#pragma once

#include <immintrin.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace leeway {

class Team {
   public:
    static constexpr int MOST = 1024;
    static constexpr int MOST_PIECES = 0xFFFF;
    using Step = void (*)(void* what, int piece, int member);

    // Starts threads - 1 members beside the caller, fewer where the system refuses; `size()` says how many there are.
    explicit Team(int threads) {
        for (int member = 1; member < threads && member < MOST; ++member) {
            seats_[member] = {this, member};
            if (pthread_create(&members_[member], nullptr, enter, &seats_[member]) != 0) break;
            size_ = member + 1;
        }
    }

    ~Team() {
        ended_.store(true, std::memory_order_release);
        wake();
        for (int member = 1; member < size_; ++member) pthread_join(members_[member], nullptr);
    }

    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return size_; }

    // Between `begin` and `end` members look for work without sleeping.
    void begin() {
        running_.store(true, std::memory_order_release);
        if (size_ > 1) wake();
    }

    void end() { running_.store(false, std::memory_order_release); }

    // Calls `step(what, piece, member)` for every piece, at most MOST_PIECES, and returns when all are done.
    void share(Step step, void* what, int pieces) {
        step_ = step;
        what_ = what;
        done_.store(0, std::memory_order_relaxed);
        round_ += 1;
        ticket_.store(uint64_t(round_) << 32 | uint64_t(pieces) << 16, std::memory_order_release);
        work(0);
        for (int waited = 0; done_.load(std::memory_order_acquire) < pieces; ++waited) rest(waited);
    }

   private:
    struct Seat {
        Team* team;
        int member;
    };

    static void* enter(void* seat) {
        static_cast<Seat*>(seat)->team->stay(static_cast<Seat*>(seat)->member);
        return nullptr;
    }

    void stay(int member) {
        int waited = 0;
        while (!ended_.load(std::memory_order_acquire)) {
            if (work(member)) {
                waited = 0;
            } else if (running_.load(std::memory_order_acquire)) {
                rest(waited++);
            } else {
                sleep();
                waited = 0;
            }
        }
    }

    // Claims pieces until none is left.  A ticket is round, pieces, next piece: of a round that is over none can be
    // claimed, as the exchange fails; and a round is not over while a claimed piece is in hand.
    bool work(int member) {
        bool any = false;
        for (;;) {
            uint64_t ticket = ticket_.load(std::memory_order_acquire);
            const int piece = int(ticket & 0xFFFF), pieces = int(ticket >> 16 & 0xFFFF);
            if (piece >= pieces) return any;
            if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
            step_(what_, piece, member);
            done_.fetch_add(1, std::memory_order_release);
            any = true;
        }
    }

    static void rest(int waited) {
        if (waited < SPINS)
            _mm_pause();
        else
            sched_yield();
    }

    void sleep() {
        const int seen = alarm_.load(std::memory_order_acquire);
        if (running_.load(std::memory_order_acquire) || ended_.load(std::memory_order_acquire)) return;
        syscall(SYS_futex, &alarm_, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
    }

    void wake() {
        alarm_.fetch_add(1, std::memory_order_acq_rel);
        syscall(SYS_futex, &alarm_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
    }

    static constexpr int SPINS = 2000;

    alignas(64) std::atomic<uint64_t> ticket_{0};
    alignas(64) std::atomic<int> done_{0};
    alignas(64) std::atomic<int> alarm_{0};
    std::atomic<bool> running_{false};
    std::atomic<bool> ended_{false};
    Step step_ = nullptr;
    void* what_ = nullptr;
    uint32_t round_ = 0;
    int size_ = 1;
    Seat seats_[MOST] = {};
    pthread_t members_[MOST] = {};
};

}  // namespace leeway
