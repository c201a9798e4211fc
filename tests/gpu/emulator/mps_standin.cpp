// PyTorch's aoti_torch_mps_* functions for CPU tensors: a shader's text is compiled as C++ behind
// metal_on_cpu.h and runs on the threads of threadgroup.cpp.  Stricter than PyTorch: arguments do
// not outlive the encoding they were set in, and a slot must hold what the kernel's parameter is.
//
// The environment: CAUSAL_CONV1D_EMULATOR_CACHE, the folder of compiled shaders;
// CAUSAL_CONV1D_EMULATOR_FLAGS, more options for the compiler, such as -fsanitize=address;
// CAUSAL_CONV1D_EMULATOR_WHOLE_GROUPS, if not empty, for groups that run beyond the grid, as in
// CUDA; CAUSAL_CONV1D_EMULATOR_FLUSH, if not empty, for subnormals of float that are zero, as every
// kernel that Apple's compiler made has them; CXX, the compiler.
#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xmmintrin.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <regex>
#include <sstream>
#include <stdexcept>

#include <torch/csrc/inductor/aoti_torch/c/shim_mps.h>

#include "threadgroup.h"

namespace fs = std::filesystem;
using emulator::Kernel;

namespace
{

constexpr unsigned max_slots = 31, max_threadgroup_bytes = 32 << 10;

// ---- PyTorch's ----

template <typename F> F *torch_function(const char *name)
{
    void *libtorch = dlopen("libtorch_cpu.so", RTLD_LAZY | RTLD_NOLOAD);
    return reinterpret_cast<F *>(libtorch ? dlsym(libtorch, name) : nullptr);
}

void *data_of(AtenTensorHandle tensor)
{
    static const auto get =
        torch_function<AOTITorchError(AtenTensorHandle, void **)>("aoti_torch_get_data_ptr");
    void *data = nullptr;
    if (!get || get(tensor, &data)) throw std::runtime_error("no data pointer of a tensor");
    return data;
}

// A handle of our own to a tensor's memory: what happens to the tensor does not free it.
struct Release {
    void operator()(AtenTensorHandle memory) const
    {
        static const auto release =
            torch_function<AOTITorchError(AtenTensorHandle)>("aoti_torch_delete_tensor_object");
        release(memory);
    }
};
using Memory = std::unique_ptr<AtenTensorOpaque, Release>;

Memory memory_of(AtenTensorHandle tensor)
{
    static const auto view =
        torch_function<decltype(aoti_torch__reinterpret_tensor)>("aoti_torch__reinterpret_tensor");
    AtenTensorHandle memory = nullptr;
    if (!view || view(tensor, 0, nullptr, nullptr, 0, &memory))
        throw std::runtime_error("no memory of a tensor");
    return Memory(memory);
}

// Where torch_exception_get_what finds it, from PyTorch 2.13 on; on stderr before, as PyTorch has
// it.
void report(const std::string &what)
{
    using Set = void(const std::string &);
    static const auto set = torch_function<Set>("_ZN5torch4csrc4shim7details24set_torch_exception_"
                                                "whatERKNSt7__cxx1112basic_stringIcSt11char_"
                                                "traitsIcESaIcEEE");
    static const auto set_short =
        torch_function<Set>("_ZN5torch4csrc4shim7details42set_torch_exception_what_without_"
                            "backtraceERKNSt7__cxx1112basic_"
                            "stringIcSt11char_traitsIcESaIcEEE");
    if (set && set_short)
        set(what), set_short(what);
    else
        fprintf(stderr, "Exception in aoti_torch: %s\n", what.c_str());
}

template <typename Body> AOTITorchError guarded(Body body)
{
    try {
        body();
        return AOTI_TORCH_SUCCESS;
    } catch (const std::exception &e) {
        report(e.what());
        return AOTI_TORCH_FAILURE;
    }
}

template <typename... Words> void require(bool condition, const Words &...words)
{
    if (condition) return;
    std::ostringstream text;
    (text << ... << words);
    throw std::runtime_error(text.str());
}

// ---- Compiling ----

std::string environment(const char *name, const std::string &otherwise)
{
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

std::string contents(const fs::path &path)
{
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
}

// Runs a command, its output in `log`; without LD_PRELOAD, which may hold a sanitizer meant for us.
bool run(const std::vector<std::string> &command, const fs::path &log)
{
    std::vector<char *> arguments, variables;
    for (const std::string &word : command) arguments.push_back(const_cast<char *>(word.c_str()));
    for (char **v = environ; *v; v++)
        if (strncmp(*v, "LD_PRELOAD=", 11)) variables.push_back(*v);
    arguments.push_back(nullptr), variables.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t child;
    const int failed =
        posix_spawnp(&child, arguments[0], &actions, nullptr, arguments.data(), variables.data());
    posix_spawn_file_actions_destroy(&actions);
    require(!failed, "cannot run ", command[0], ": ", strerror(failed));
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

std::vector<std::string> words(const std::string &text)
{
    std::istringstream stream(text);
    return {std::istream_iterator<std::string>(stream), {}};
}

// The shader's text as a shared object, from the cache if it was compiled before.
fs::path compiled(const std::string &text)
{
    static std::mutex mutex;
    std::lock_guard lock(mutex);
    const fs::path here = EMULATOR_SOURCE;
    static const std::string prelude = contents(here / "emulator.h") + contents(here / "values.h") +
                                       contents(here / "metal_on_cpu.h");
    std::vector<std::string> command = words(environment("CXX", "c++"));
    const auto add = [&](const std::vector<std::string> &more) {
        command.insert(command.end(), more.begin(), more.end());
    };
    add({"-std=c++20", "-w", "-O1", "-march=native", "-ffp-contract=off",
         "-ftrivial-auto-var-init=pattern", "-fPIC", "-fvisibility=hidden",
         "-I" + (here / "include").string()});
    add(words(environment("CAUSAL_CONV1D_EMULATOR_FLAGS", "")));

    std::string all = prelude + text;
    for (const std::string &word : command) all += '\0' + word;
    std::ostringstream name;
    name << std::hex << std::hash<std::string>()(all);
    const fs::path cache = environment("CAUSAL_CONV1D_EMULATOR_CACHE", EMULATOR_CACHE);
    const fs::path library = cache / (name.str() + ".so");
    if (fs::exists(library)) return library;

    // Written beside and renamed, since other processes may be at it too.
    fs::create_directories(cache);
    const std::string mine = (cache / (name.str() + "." + std::to_string(getpid()))).string();
    const fs::path source = mine + ".cpp", log = mine + ".log", object = mine + ".so";
    const auto checked = [&](const std::vector<std::string> &more) {
        std::vector<std::string> words = command;
        words.insert(words.end(), more.begin(), more.end());
        if (run(words, log)) return contents(log);
        const std::string message = contents(log);
        for (const fs::path &path : {source, log, object}) fs::remove(path);
        throw std::runtime_error("Failed to create metal library, error: " + message);
    };
    std::ofstream(source) << "# 1 \"program_source\"\n" << text;
    const std::string preprocessed = checked({"-E", "-P", "-x", "c++", source});
    std::ofstream tail(source, std::ios::app);
    tail << "\n# 1 \"kernels\"\nextern \"C\" [[gnu::visibility(\"default\")]] const "
            "emulator::Kernel emulator_kernels[] = {\n";
    static const std::regex kernel(R"(\bkernel\s+void\s+(\w+)\s*\()");
    for (std::sregex_iterator k(preprocessed.begin(), preprocessed.end(), kernel), end; k != end;
         ++k)
        tail << "    emulator::describe<" << (*k)[1] << ">(\"" << (*k)[1] << "\"),\n";
    tail << "    {}};\n";
    tail.close();
    checked({"-shared", "-include", here / "metal_on_cpu.h", "-x", "c++", source, "-o", object});
    fs::rename(object, library);
    fs::remove(source), fs::remove(log);
    return library;
}

// ---- Libraries and functions ----

struct Slot {
    char kind; // as in Kernel::parameters, or 0
    void *data;
    int64_t integer;
};

struct Function {
    std::string name, parameters;
    std::vector<emulator::Copy> copies;
    Slot slots[max_slots];
};

struct Library {
    std::vector<void *> modules; // copies of one shared object
    std::map<std::string, std::unique_ptr<Function>> functions;

    explicit Library(const std::string &text)
    {
        const fs::path path = compiled(text);
        load(path);
        // Groups that may race need memory of their own: a file of another name is loaded once
        // more.
        for (int i = 1; emulator::finds_races() && i < 4; i++) {
            const fs::path copy = path.string() + "." + std::to_string(i);
            const std::string mine = copy.string() + "." + std::to_string(getpid());
            if (!fs::exists(copy)) fs::copy_file(path, mine), fs::rename(mine, copy);
            load(copy);
        }
    }
    ~Library()
    {
        for (void *module : modules) dlclose(module);
    }
    void load(const fs::path &path)
    {
        void *module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        require(module, dlerror());
        modules.push_back(module);
        *static_cast<const emulator::Runtime **>(dlsym(module, "emulator_runtime")) =
            &emulator::runtime;
    }
    Function *function(const std::string &name)
    {
        std::unique_ptr<Function> &found = functions[name];
        if (found) return found.get();
        Function made = {name, "", {}, {}};
        for (void *module : modules) {
            const auto *k = static_cast<const Kernel *>(dlsym(module, "emulator_kernels"));
            const bool alone = k->name && !k[1].name;
            while (k->name && k->name != name) k++;
            require(k->name, "Failed to create function state object for: ", name);
            auto *const *memory = static_cast<char *const *>(dlsym(module, "emulator_threadgroup"));
            const size_t bytes = size_t(memory[1] - memory[0]);
            require(!alone || bytes <= max_threadgroup_bytes, name, " has ", bytes,
                    " bytes of threadgroup memory, ", max_threadgroup_bytes, " are the limit");
            made.parameters = k->parameters;
            made.copies.push_back({k->run, memory[0], bytes});
        }
        require(made.parameters.size() <= max_slots, name, " has ", made.parameters.size(),
                " parameters");
        found = std::make_unique<Function>(std::move(made));
        return found.get();
    }
};

// The stream: one command block at a time, each on its caller's thread.
std::mutex stream;
struct Block;
thread_local Block *block; // the one that is open

struct Block {
    Function *encoding = nullptr;
    std::string error; // of a launch, which the block returns even if its callback does not look
    std::vector<Memory> retained; // of tensors that were encoded, as Metal's command buffer does

    Block()
    {
        block = this;
    }
    ~Block()
    {
        block = nullptr;
    }
};

Function &encoding(AOTIMetalKernelFunctionHandle handle)
{
    Function *f = reinterpret_cast<Function *>(handle);
    require(f, "no function");
    require(block, f->name, ": outside of a command block");
    require(block->encoding == f, f->name, ": not the function whose encoding was started last");
    return *f;
}

void set(AOTIMetalKernelFunctionHandle handle, unsigned index, Slot slot)
{
    Function &f = encoding(handle);
    require(index < f.parameters.size(), f.name, " has no argument slot ", index);
    const auto name = [](char kind) { return kind == 't' ? "a tensor" : "an integer"; };
    require(f.parameters[index] == slot.kind, f.name, ": slot ", index, " takes ",
            name(f.parameters[index]), ", got ", name(slot.kind));
    f.slots[index] = slot;
}

// While it lives, this thread's subnormals of float are zero, if that is asked for.
struct FlushToZero {
    const unsigned before = _mm_getcsr();

    FlushToZero()
    {
        constexpr unsigned results = 0x8000, operands = 0x40;
        if (!environment("CAUSAL_CONV1D_EMULATOR_FLUSH", "").empty())
            _mm_setcsr(before | results | operands);
    }
    ~FlushToZero()
    {
        _mm_setcsr(before);
    }
    FlushToZero(const FlushToZero &) = delete;
};

void dispatch(AOTIMetalKernelFunctionHandle handle, const uint64_t *length, size_t length_size,
              const uint64_t *group_size, size_t group_size_size)
{
    Function &f = encoding(handle);
    require(length_size >= 1 && length_size <= 3, f.name, ": a grid of ", length_size,
            " dimensions");
    require(group_size_size == length_size, f.name,
            ": size and group_size must have same number of dimensions");
    uint64_t grid[3] = {1, 1, 1}, group[3] = {1, 1, 1};
    std::copy_n(length, length_size, grid);
    std::copy_n(group_size, length_size, group);
    if (!environment("CAUSAL_CONV1D_EMULATOR_WHOLE_GROUPS", "").empty())
        for (int i = 0; i < 3 && group[i]; i++)
            grid[i] = (grid[i] + group[i] - 1) / group[i] * group[i];
    void *arguments[max_slots];
    for (size_t i = 0; i < f.parameters.size(); i++) {
        require(f.slots[i].kind, f.name, ": argument slot ", i, " is not set");
        arguments[i] = f.slots[i].kind == 't' ? f.slots[i].data : &f.slots[i].integer;
    }
    try {
        const FlushToZero mode;
        emulator::run_grid(grid, group, f.copies, arguments);
    } catch (const std::exception &e) {
        block->error = f.name + ": " + e.what();
        throw std::runtime_error(block->error);
    }
}

} // namespace

// ---- The interface ----

AOTITorchError aoti_torch_mps_create_shader_library(const char *text,
                                                    AOTIMetalShaderLibraryHandle *library)
{
    return guarded(
        [&] { *library = reinterpret_cast<AOTIMetalShaderLibraryHandle>(new Library(text)); });
}

AOTITorchError aoti_torch_mps_delete_shader_library(AOTIMetalShaderLibraryHandle library)
{
    delete reinterpret_cast<Library *>(library);
    return AOTI_TORCH_SUCCESS;
}

AOTITorchError aoti_torch_mps_get_kernel_function(AOTIMetalShaderLibraryHandle library,
                                                  const char *name,
                                                  AOTIMetalKernelFunctionHandle *function)
{
    return guarded([&] {
        *function = reinterpret_cast<AOTIMetalKernelFunctionHandle>(
            reinterpret_cast<Library *>(library)->function(name));
    });
}

AOTITorchError aoti_torch_mps_run_command_block(AOTIMetalKernelFunctionHandle function,
                                                aoti_torch_mps_command_block_callback_t callback,
                                                void *user)
{
    return guarded([&] {
        require(!block, "a command block inside another");
        Block opened;
        std::lock_guard lock(stream);
        callback(function, user);
        require(opened.error.empty(), opened.error);
    });
}

AOTITorchError aoti_torch_mps_start_encoding(AOTIMetalKernelFunctionHandle function)
{
    return guarded([&] {
        if (block) block->encoding = reinterpret_cast<Function *>(function);
        for (Slot &slot : encoding(function).slots) slot = {};
    });
}

AOTITorchError aoti_torch_mps_set_arg_tensor(AOTIMetalKernelFunctionHandle function, unsigned index,
                                             AtenTensorHandle tensor)
{
    return guarded([&] {
        require(tensor, "Tensor is null.");
        Memory memory = memory_of(tensor);
        set(function, index, {'t', data_of(tensor), 0});
        block->retained.push_back(std::move(memory));
    });
}

AOTITorchError aoti_torch_mps_set_arg_int(AOTIMetalKernelFunctionHandle function, unsigned index,
                                          int64_t value)
{
    return guarded([&] { set(function, index, {'i', nullptr, value}); });
}

AOTITorchError aoti_torch_mps_dispatch_array_with_group_size(AOTIMetalKernelFunctionHandle function,
                                                             const uint64_t *length,
                                                             size_t length_size,
                                                             const uint64_t *group_size,
                                                             size_t group_size_size)
{
    return guarded([&] { dispatch(function, length, length_size, group_size, group_size_size); });
}
