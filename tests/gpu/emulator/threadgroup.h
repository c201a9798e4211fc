// Runs the threads of a kernel as a GPU does: a grid of threadgroups, each of SIMD groups of 32.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "emulator.h"

namespace emulator
{

extern const Runtime runtime;

// One loaded copy of a shader: a kernel, and the threadgroup memory that its threads share.
struct Copy {
    void (*run)(void *const *arguments, const unsigned position[3]);
    char *memory;
    size_t memory_bytes;
};

// Whether this process runs under ThreadSanitizer.
bool finds_races();

// Runs grid[0] x grid[1] x grid[2] threads in groups of at most group[0] x [1] x [2], smaller at
// the ragged edges. Throws std::runtime_error for what a GPU leaves undefined; one call at a time.
//
// Under ThreadSanitizer every thread of the grid is a thread of its own, and what orders two of
// them is a barrier of their group, nothing else.  Groups run in turn, each with the next copy, so
// that the memory of different groups is different too; only groups on the same copy count as
// ordered.
void run_grid(const uint64_t grid[3], const uint64_t group[3], const std::vector<Copy> &copies,
              void *const *arguments);

} // namespace emulator
