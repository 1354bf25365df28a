// A device that PyTorch takes for a GPU: its memory is the host's, its operators are the CPU's.
//
// Loaded into a CPU build of PyTorch it fills the places that a CUDA build would: the device guard,
// the allocator, and a kernel for every operator. That kernel looks at the arguments as if they lay
// on the CPU, runs the operator there and gives the results back as the device's. As on a GPU, an
// operator refuses arguments that lie on both, but for numbers and for indices.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>
#include <limits>

namespace {

using at::IntArrayRef;
using at::Tensor;
using c10::Device;
using c10::DeviceIndex;
using c10::DeviceType;
using c10::Stream;

const Device kDevice(DeviceType::CUDA, 0);
const c10::DispatchKeySet kKeys(c10::DispatchKey::CUDA);

Stream the_stream() { return Stream(Stream::DEFAULT, kDevice); }

struct Guard final : c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device) const override { return kDevice; }
  Device getDevice() const override { return kDevice; }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device) const override { return the_stream(); }
  Stream getNewStream(Device, int) const override { return the_stream(); }
  Stream exchangeStream(Stream) const override { return the_stream(); }
  DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const Stream&, DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, DeviceIndex) const noexcept override {}
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void recordDataPtrOnStream(const c10::DataPtr&, const Stream&) const override {}
};
c10::impl::DeviceGuardImplRegistrar registered_guard(DeviceType::CUDA, new Guard());

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t size) override {
    void* memory = nullptr;
    TORCH_CHECK(!size || !posix_memalign(&memory, 64, size), "no memory");
    return {memory, memory, &std::free, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &std::free; }
  void copy_data(void* to, const void* from, size_t size) const override {
    std::memcpy(to, from, size);
  }
};
Allocator allocator;
const bool registered_allocator = [] {
  c10::SetAllocator(DeviceType::CUDA, &allocator, 100);
  return true;
}();

struct Hooks final : at::CUDAHooksInterface {
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex current_device() const override { return 0; }
  DeviceIndex deviceCount() const override { return 1; }
  int getNumGPUs() const override { return 1; }
  void setCurrentDevice(DeviceIndex) const override {}
  DeviceIndex getCurrentDevice() const override { return 0; }
  DeviceIndex exchangeDevice(DeviceIndex) const override { return 0; }
  DeviceIndex maybeExchangeDevice(DeviceIndex) const override { return 0; }
  at::Generator getNewGenerator(DeviceIndex) const override {
    return at::detail::createCPUGenerator();
  }
  const at::Generator& getDefaultGenerator(DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  at::Allocator* getPinnedMemoryAllocator() const override {
    return c10::GetAllocator(DeviceType::CPU);
  }
};
// PyTorch made its own hooks, which have no members, when it was imported: they become ours.
const bool replaced_hooks = [] {
  auto* ours = new Hooks();
  auto* theirs = const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks());
  std::memcpy(static_cast<void*>(theirs), static_cast<void*>(ours), sizeof(void*));
  return true;
}();

// The same memory as a tensor of the CPU; it keeps the device's tensor alive.
Tensor on_host(const Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) return tensor;
  const auto options = tensor.options().device(at::kCPU).requires_grad(false);
  if (tensor.storage().nbytes() == 0) {
    return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  }
  return at::from_blob(
      tensor.data_ptr(), tensor.sizes(), tensor.strides(), [tensor](void*) {}, options);
}

c10::Storage storage_of(const Tensor& host) {
  auto storage = host.storage();
  auto release = [](void* kept) { delete static_cast<Tensor*>(kept); };
  return c10::Storage(
      c10::Storage::use_byte_size_t(), storage.nbytes(),
      c10::DataPtr(storage.mutable_data(), new Tensor(host), release, kDevice), &allocator, true);
}

// The same memory as a tensor of the device.
Tensor on_device(const Tensor& host) {
  if (!host.defined() || host.is_cuda()) return host;
  auto made = at::detail::make_tensor<c10::TensorImpl>(storage_of(host), kKeys, host.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(
      host.sizes(), host.strides(), host.storage_offset());
  return made;
}

bool takes_both_devices(const std::string& name) {
  for (auto prefix : {"aten::index.", "aten::index_put", "aten::_index_put_impl", "aten::copy_"}) {
    if (name.rfind(prefix, 0) == 0) return true;
  }
  return false;
}

void run_on_host(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& arguments = op.schema().arguments();
  const auto first = stack->size() - arguments.size();
  std::vector<std::pair<Tensor, Tensor>> written;  // the device's tensor and the host's
  bool device = false, host = false;
  auto moved = [&](const Tensor& tensor, bool writes) {
    if (tensor.defined()) {
      device |= tensor.is_cuda();
      host |= tensor.is_cpu() && tensor.dim() > 0;
    }
    auto alias = on_host(tensor);
    if (writes) written.emplace_back(tensor, alias);
    return alias;
  };
  for (size_t i = 0; i < arguments.size(); ++i) {
    auto& value = (*stack)[first + i];
    const auto* alias = arguments[i].alias_info();
    const bool writes = alias && alias->isWrite();
    if (value.isTensor()) {
      value = moved(value.toTensor(), writes);
    } else if (value.isTensorList()) {
      std::vector<Tensor> all;
      for (const auto& tensor : value.toTensorVector()) all.push_back(moved(tensor, writes));
      value = all;
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> all;
      for (const auto& tensor : value.toOptionalTensorVector()) {
        all.push_back(tensor ? std::optional(moved(*tensor, writes)) : std::nullopt);
      }
      value = all;
    } else if (value.isDevice() && value.toDevice().is_cuda()) {
      value = Device(at::kCPU);
    }
  }
  const auto name = c10::toString(op.operator_name());
  TORCH_CHECK(
      !(device && host) || takes_both_devices(name),
      "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
      "cpu! (", name, ")");
  op.callBoxed(stack);
  for (auto& [tensor, alias] : written) {
    if (!tensor.defined() || !tensor.is_cuda() || alias.numel() == 0) continue;
    if (alias.data_ptr() == tensor.data_ptr() && alias.sizes() == tensor.sizes()) continue;
    auto* made_anew = tensor.unsafeGetTensorImpl();  // the operator gave an output its size
    made_anew->set_storage_keep_dtype(storage_of(alias));
    made_anew->set_sizes_and_strides(alias.sizes(), alias.strides(), alias.storage_offset());
  }
  auto given_back = [&](const Tensor& result) {
    for (auto& [tensor, alias] : written) {
      if (alias.is_same(result)) return tensor;
    }
    return on_device(result);
  };
  for (size_t i = stack->size() - op.schema().returns().size(); i < stack->size(); ++i) {
    auto& value = (*stack)[i];
    if (value.isTensor()) {
      value = given_back(value.toTensor());
    } else if (value.isTensorList()) {
      std::vector<Tensor> all;
      for (const auto& tensor : value.toTensorVector()) all.push_back(given_back(tensor));
      value = all;
    }
  }
}

Tensor empty(
    IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
    std::optional<Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(
      size, &allocator, kKeys, c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(
    IntArrayRef size, IntArrayRef stride, std::optional<at::ScalarType> dtype,
    std::optional<at::Layout>, std::optional<Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(
      size, stride, &allocator, kKeys, c10::dtype_or_default(dtype));
}

Tensor& copy_(Tensor& to, const Tensor& from, bool) {
  if (to.numel()) on_host(to).copy_(on_host(from));
  return to;
}

Tensor& set_storage(
    Tensor& tensor, c10::Storage storage, int64_t offset, IntArrayRef size, IntArrayRef stride) {
  auto* made_anew = tensor.unsafeGetTensorImpl();
  made_anew->set_storage_keep_dtype(storage);
  made_anew->set_sizes_and_strides(size, stride, offset);
  return tensor;
}

Tensor& set_whole_storage(Tensor& tensor, c10::Storage storage) {
  const auto size = static_cast<int64_t>(storage.nbytes() / tensor.itemsize());
  return set_storage(tensor, storage, 0, {size}, {1});
}

// PyTorch's plain attention; GPUs choose among kernels that are in the CUDA build only.
Tensor attend(
    const Tensor& q, const Tensor& k, const Tensor& v, const std::optional<Tensor>& mask,
    double dropout, bool causal, std::optional<double> scale, bool grouped) {
  auto added = mask;
  if (mask && mask->scalar_type() == at::kBool) {
    added = at::zeros_like(*mask, q.options().requires_grad(false))
                .masked_fill_(mask->logical_not(), -std::numeric_limits<double>::infinity());
  }
  return std::get<0>(at::_scaled_dot_product_attention_math(
      q, k, v, added, dropout, causal, std::nullopt, scale, grouped));
}

TORCH_LIBRARY_IMPL(_, CUDA, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("copy_", copy_);
  library.impl("set_.source_Storage_storage_offset", set_storage);
  library.impl("set_.source_Storage", set_whole_storage);
  library.impl("as_strided", at::native::as_strided_tensorimpl);
  library.impl("view", at::native::view);
  library.impl("unfold", at::native::unfold);
  library.impl("_reshape_alias", at::native::_reshape_alias);
  library.impl("scaled_dot_product_attention", attend);
}

TORCH_LIBRARY_IMPL(aten, AutogradCUDA, library) {
  library.impl("scaled_dot_product_attention", attend);
}

}  // namespace
