// Threads that wait for each other as little as can be, and sleep where they do.

#pragma once

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

// Lets threads do something one after the other, in the order of numbers from 0.
class Turns {
  public:
    template <typename Act> void in_turn(int64_t number, Act act) {
        std::unique_lock<std::mutex> lock(mutex);
        changed.wait(lock, [&] { return next == number; });
        act();
        next++;
        changed.notify_all();
    }

  private:
    std::mutex mutex;
    std::condition_variable changed;
    int64_t next = 0;
};

}  // namespace
