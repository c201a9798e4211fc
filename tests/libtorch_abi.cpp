// Fails to compile where src/core/libtorch.h differs from PyTorch's own C++ headers.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/inductor/aoti_torch/c/shim_mps.h>
#include <torch/csrc/stable/c/shim.h>

#include <type_traits>

#include "../src/core/libtorch.h"

#define X(result, name, parameters) \
    static_assert(std::is_same_v<decltype(&::name), result(*) parameters>, #name);
TORCH_FUNCTIONS(X)
TORCH_MPS_FUNCTIONS(X)
#undef X

int main()
{
}
