// What a shader compiled as C++ (metal_on_cpu.h) and the threads that run it (threadgroup.cpp)
// know of each other.  Plain data, no headers: it is compiled again with every shader.
#pragma once

namespace emulator
{

constexpr unsigned simd_width = 32;

// A kernel's parameters are argument slots 0, 1, ...: one letter each, 't' a tensor, 'i' an
// integer.
struct Kernel {
    const char *name;
    const char *parameters;
    void (*run)(void *const *arguments, const unsigned position[3]);
};

using Value = char[16]; // what a lane may hand to the others

// The lanes of a SIMD group at a SIMD function: who is there, and the value of each.
struct Lanes {
    unsigned self;
    unsigned active; // a bit per lane
    const Value *values;
};

// What a shader may ask of the threads that run it.  line is where in the shader.
struct Runtime {
    void (*barrier)(const char *function, int line, bool fence);
    // Without a value it orders the memory accesses of the lanes that meet.
    Lanes (*exchange)(const char *function, int line, const void *value, unsigned bytes);
    void (*fail)(const char *function, int line, const char *what); // does not return
};

} // namespace emulator
