// Threads that wait for each other as little as can be, and sleep where they do.

#pragma once

#include <atomic>
#include <cfenv>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace {

// Calls work(0) to work(count - 1), each on a thread of its own, with this one's rounding and denormals; where there is
// none to be had, on this one.
template <typename Work> void on_threads(int64_t count, Work work) {
    std::fenv_t modes;
    std::fegetenv(&modes);
    std::vector<std::thread> others;
    for (int64_t index = 1; index < count; index++) try {
            others.emplace_back([&, index] {
                std::fesetenv(&modes);
                work(index);
            });
        } catch (const std::system_error&) {
            work(index);
        }
    work(0);
    for (std::thread& other : others) other.join();
}

// Rounds of pieces of work for any number of threads. A piece is begun when all of the round before are done, and what
// closes that round, which the thread does that came last.
class Rounds {
  public:
    Rounds(int64_t rounds, int64_t pieces) : pieces(pieces), total(rounds * pieces) {}

    // Does work(round, piece) for pieces that nobody else has taken, and close(round) after the last of a round.
    template <typename Work, typename Close> void take_part(Work work, Close close) {
        for (int64_t index = next++; index < total; index = next++) {
            const int64_t round = index / pieces;
            wait_for(round);
            work(round, index % pieces);
            if (++done < (round + 1) * pieces) continue;
            close(round);
            const std::lock_guard<std::mutex> lock(mutex);
            opened = round + 1;
            changed.notify_all();
        }
    }

  private:
    const int64_t pieces, total;
    std::atomic<int64_t> next{0}, done{0}, opened{0};
    std::mutex mutex;
    std::condition_variable changed;

    // Sleeps, but for the first microseconds: to wake a thread takes longer than a small round does.
    void wait_for(int64_t round) {
        for (int turns = 0; turns < 400 && opened < round; turns++) pause();
        if (opened >= round) return;
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return opened >= round; });
    }

    static void pause() {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
};

}  // namespace
