// The threads of a threadgroup as fibers, all on the calling thread.
//
// A fiber runs the lanes of a SIMD group one after the other as plain calls; only when a lane
// waits, for a barrier or a SIMD function, does it keep the fiber's stack and the next lane gets
// another fiber. So kernels that never wait run as a plain loop.
#include "threadgroup.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>

// The sanitizers' interfaces for fibers; null where that sanitizer is not in the process.
extern "C" {
[[gnu::weak]] void __sanitizer_start_switch_fiber(void **, const void *, size_t);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void *, const void **, size_t *);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void *, size_t);
[[gnu::weak]] void *__tsan_get_current_fiber();
[[gnu::weak]] void *__tsan_create_fiber(unsigned);
[[gnu::weak]] void __tsan_destroy_fiber(void *);
[[gnu::weak]] void __tsan_switch_to_fiber(void *, unsigned);
[[gnu::weak]] void __tsan_acquire(void *);
[[gnu::weak]] void __tsan_release(void *);

// Saves the stack pointer at *from and goes on at `to`, with the registers that a call preserves.
void emulator_switch(void **from, void *to);
}

#ifndef __x86_64__
#error "emulator_switch is written for x86-64 only"
#endif
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulator_switch, . - emulator_switch
)");

namespace emulator
{
namespace
{

// Without an order between the two: what ThreadSanitizer may conclude is only what we tell it.
void tsan_switch(void *fiber)
{
    constexpr unsigned no_sync = 1;
    if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(fiber, no_sync);
}
void tsan_acquire(void *of)
{
    if (__tsan_acquire) __tsan_acquire(of);
}
void tsan_release(void *to)
{
    if (__tsan_release) __tsan_release(to);
}

constexpr unsigned max_threads = 1024; // of a group

enum State { READY, AT_SIMD_FUNCTION, AT_BARRIER, RETURNED };

struct Fiber;
struct Thread {
    unsigned position[3];
    State state = READY;
    const char *function = nullptr; // where it waits
    int line = 0;
    Fiber *fiber = nullptr; // that it waits on, null before its start
    void *tsan = nullptr;
};

struct SimdGroup {
    unsigned first, count, started = 0, active = 0;
    unsigned turn = 0; // which of values is being handed in
    Value values[2][simd_width] = {};
};

// All of the one grid that runs.
struct {
    const Copy *copy;
    unsigned turn; // of the copy among the copies
    void *const *arguments;
    std::vector<Thread> threads; // of the group
    unsigned meeting; // barriers in turn, since a thread may be at the next while others leave one
    char meetings[2]; // what ThreadSanitizer orders the threads that met by
    SimdGroup *simd;
    unsigned current;
    void *before, *after;       // what ThreadSanitizer orders a copy's groups by
    void *stack_pointer, *tsan; // of the caller of run_grid
    const void *stack;
    size_t stack_bytes;
    std::string error;
} grid_state;
auto &the = grid_state;

void run_lanes();

struct Fiber {
    static constexpr size_t bytes = 256 << 10, guard = 4096;
    char *stack;
    void *stack_pointer;

    Fiber()
    {
        stack = static_cast<char *>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (stack == MAP_FAILED) throw std::bad_alloc();
        mprotect(stack, guard, PROT_NONE);
        if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(stack, bytes);
        void **top = reinterpret_cast<void **>(stack + bytes);
        *--top = nullptr; // where run_lanes would return to
        *--top = reinterpret_cast<void *>(run_lanes);
        stack_pointer = top - 6; // six registers of any value
    }
    ~Fiber()
    {
        if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(stack, bytes);
        munmap(stack, bytes);
    }
    Fiber(const Fiber &) = delete;
};

std::vector<std::unique_ptr<Fiber>> fibers;
std::vector<Fiber *> idle;

// A fiber for the current thread's start.  Where ThreadSanitizer watches, two threads that may race
// share no stack, which would be a race too.
Fiber *a_fiber()
{
    if (finds_races()) {
        const size_t own = size_t(the.turn) * max_threads + the.current;
        if (fibers.size() <= own) fibers.resize(own + 1);
        if (!fibers[own]) fibers[own] = std::make_unique<Fiber>();
        return fibers[own].get();
    }
    if (idle.empty()) {
        fibers.push_back(std::make_unique<Fiber>());
        return fibers.back().get();
    }
    Fiber *fiber = idle.back();
    idle.pop_back();
    return fiber;
}

Fiber *running;

// Each side of a switch tells AddressSanitizer which stack it goes to, and that it has arrived.
void resume(Fiber *fiber)
{
    running = fiber;
    void *fake_stack = nullptr;
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(&fake_stack, fiber->stack, Fiber::bytes);
    emulator_switch(&the.stack_pointer, fiber->stack_pointer);
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}
void arrived_on_fiber(void *fake_stack)
{
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(fake_stack, &the.stack, &the.stack_bytes);
}
void leave(Fiber *fiber)
{
    void *fake_stack = nullptr;
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(&fake_stack, the.stack, the.stack_bytes);
    emulator_switch(&fiber->stack_pointer, the.stack_pointer);
    arrived_on_fiber(fake_stack);
}

// A fiber's life: starts lanes of the SIMD group as long as there are some and none waits.
void run_lanes()
{
    arrived_on_fiber(nullptr);
    for (Fiber *self = running;; leave(self)) {
        do {
            the.current = the.simd->first + the.simd->started++;
            Thread &thread = the.threads[the.current];
            thread.fiber = self;
            tsan_switch(thread.tsan);
            tsan_acquire(the.before);
            the.copy->run(the.arguments, thread.position);
            tsan_release(the.after);
            tsan_release(&grid_state);
            tsan_switch(the.tsan);
            the.threads[the.current].state = RETURNED;
        } while (!finds_races() && the.simd->started < the.simd->count);
        if (!finds_races()) idle.push_back(self);
    }
}

void wait(State state, const char *function, int line)
{
    Thread &thread = the.threads[the.current];
    thread.state = state, thread.function = function, thread.line = line;
    tsan_switch(the.tsan);
    leave(thread.fiber);
    tsan_switch(thread.tsan);
}

std::string place(const char *function, int line)
{
    return std::string(function) + " in line " + std::to_string(line);
}

void barrier(const char *function, int line, bool fence)
{
    void *meeting = &the.meetings[the.meeting];
    if (fence) tsan_release(meeting);
    wait(AT_BARRIER, function, line);
    if (fence) tsan_acquire(meeting);
}

Lanes exchange(const char *function, int line, const void *value, unsigned bytes)
{
    SimdGroup &simd = *the.simd;
    const unsigned self = the.current - simd.first, turn = simd.turn;
    if (bytes)
        memcpy(simd.values[turn][self], value, bytes);
    else
        tsan_release(&simd.values[turn]);
    wait(AT_SIMD_FUNCTION, function, line);
    if (!bytes) tsan_acquire(&simd.values[turn]);
    return {self, simd.active, simd.values[turn]};
}

// Leaves the thread for good, and with it the grid.
void fail(const char *function, int line, const char *what)
{
    the.error = place(function, line) + " " + what;
    tsan_switch(the.tsan);
    leave(the.threads[the.current].fiber);
}

std::string describe(const Thread &t)
{
    static const char *const axes[] = {"(", ", ", ", "};
    std::string text = "thread ";
    for (int i = 0; i < 3; i++) text += axes[i] + std::to_string(t.position[i]);
    return text + (t.state == RETURNED ? ") has returned" : ") is at " + place(t.function, t.line));
}

// Throws unless all threads that have not returned, or with `returned` all, wait at one place.
void meet(const Thread *begin, const Thread *end, bool may_return, const char *who)
{
    const Thread *first = nullptr;
    for (const Thread *t = begin; t < end; t++) {
        if (t->state == RETURNED && may_return) continue;
        if (!first) first = t;
        if (t->state != first->state || (t->state != RETURNED && t->line != first->line))
            throw std::runtime_error(std::string(who) + " diverge: " + describe(*first) + ", " +
                                     describe(*t));
    }
}

// Runs a SIMD group until each of its lanes has returned or waits at a barrier.
void run_simd_group(SimdGroup &simd)
{
    Thread *begin = &the.threads[simd.first], *end = begin + simd.count;
    const auto waits = [](const Thread &t) { return t.state == AT_SIMD_FUNCTION; };
    for (;;) {
        for (Thread *t = begin; t < end; t++) {
            if (t->state != READY) continue;
            the.current = unsigned(t - the.threads.data());
            resume(t->fiber ? t->fiber : a_fiber());
            if (!the.error.empty()) throw std::runtime_error(the.error);
        }
        if (std::none_of(begin, end, waits)) return;
        meet(begin, end, true, "the lanes of a SIMD group");
        simd.active = 0, simd.turn ^= 1;
        for (Thread *t = begin; t < end; t++)
            if (t->state == AT_SIMD_FUNCTION) simd.active |= 1u << (t - begin), t->state = READY;
    }
}

void run_group()
{
    // The pattern is a NaN in every floating-point type.  Not memset, which AddressSanitizer would
    // keep out of the red zones between the arrays.
    for (size_t i = 0; i < the.copy->memory_bytes; i++)
        const_cast<volatile char *>(the.copy->memory)[i] = char(0xff);
    const unsigned count = unsigned(the.threads.size());
    std::vector<SimdGroup> groups;
    for (unsigned first = 0; first < count; first += simd_width)
        groups.push_back({.first = first, .count = std::min(count - first, simd_width)});
    // In turns up and down, so that a value read before a barrier that is missing is sometimes the
    // next one.
    for (;; std::reverse(groups.begin(), groups.end())) {
        for (SimdGroup &group : groups) {
            the.simd = &group;
            run_simd_group(group);
        }
        Thread *begin = the.threads.data(), *end = begin + count;
        meet(begin, end, false, "the threads of a group");
        if (begin->state == RETURNED) return;
        for (Thread *t = begin; t < end; t++) t->state = READY;
        the.meeting ^= 1;
    }
}

} // namespace

const Runtime runtime = {barrier, exchange, fail};

bool finds_races()
{
    return __tsan_create_fiber != nullptr;
}

void run_grid(const uint64_t grid[3], const uint64_t group[3], const std::vector<Copy> &copies,
              void *const *arguments)
{
    for (int i = 0; i < 3; i++)
        if (grid[i] < 1 || grid[i] > UINT32_MAX)
            throw std::runtime_error("a grid of " + std::to_string(grid[i]) +
                                     " threads in dimension " + std::to_string(i));
    const uint64_t limit = max_threads, threads = group[0] * group[1] * group[2];
    if (group[0] > limit || group[1] > limit || group[2] > limit || threads < 1 || threads > limit)
        throw std::runtime_error("Threadgroup size " + std::to_string(threads) + " is not in 1.." +
                                 std::to_string(limit));
    // The grid's threads start knowing all that the caller did; the caller knows theirs at the end.
    std::vector<std::vector<void *>> tsan_fibers(copies.size());
    std::vector<char> ends(2 * copies.size());
    const auto destroy = [](std::vector<void *> &of) {
        for (void *fiber : of) __tsan_destroy_fiber(fiber);
        of.clear();
    };
    the.arguments = arguments;
    the.tsan = finds_races() ? __tsan_get_current_fiber() : nullptr;
    std::string error;
    uint64_t next = 0, at[3];
    for (at[2] = 0; at[2] < grid[2] && error.empty(); at[2] += group[2])
        for (at[1] = 0; at[1] < grid[1] && error.empty(); at[1] += group[1])
            for (at[0] = 0; at[0] < grid[0] && error.empty(); at[0] += group[0], next++) {
                const size_t copy = next % copies.size();
                the.copy = &copies[copy], the.turn = unsigned(copy);
                const bool odd = next / copies.size() % 2;
                the.before = &ends[2 * copy + odd], the.after = &ends[2 * copy + !odd];
                uint64_t end[3];
                for (int i = 0; i < 3; i++) end[i] = std::min(at[i] + group[i], grid[i]);
                the.threads.clear();
                for (uint64_t z = at[2]; z < end[2]; z++)
                    for (uint64_t y = at[1]; y < end[1]; y++)
                        for (uint64_t x = at[0]; x < end[0]; x++)
                            the.threads.push_back({{unsigned(x), unsigned(y), unsigned(z)}});
                if (finds_races()) {
                    destroy(tsan_fibers[copy]);
                    for (Thread &t : the.threads)
                        tsan_fibers[copy].push_back(t.tsan = __tsan_create_fiber(0));
                }
                try {
                    run_group();
                } catch (const std::runtime_error &e) {
                    error = e.what();
                }
            }
    tsan_acquire(&grid_state);
    for (std::vector<void *> &of : tsan_fibers) destroy(of);
    if (error.empty()) return;
    the.error.clear();
    fibers.clear(), idle.clear(); // with the threads that still wait on them
    throw std::runtime_error(error);
}

} // namespace emulator
