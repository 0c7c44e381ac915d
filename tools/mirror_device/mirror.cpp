// A device of PyTorch that is the memory of the CPU under another name: tensors of both never meet
// in an operation. Every operator runs on the CPU and gives its results back, so tests that pass
// here put every tensor where it belongs, without a GPU.
#include <torch/extension.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_cpu_dispatch.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/Allocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

using at::Tensor;
using Sizes = c10::SymIntArrayRef;
constexpr auto MIRROR = c10::DeviceType::PrivateUse1;
const c10::Device THE_DEVICE(MIRROR, 0);

struct Allocator final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* memory = bytes ? malloc(bytes) : nullptr;
    return {memory, memory, &free, THE_DEVICE};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};
Allocator allocator;
REGISTER_ALLOCATOR(MIRROR, &allocator);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  static c10::Stream only_stream() { return c10::Stream(c10::Stream::DEFAULT, THE_DEVICE); }
  c10::DeviceType type() const override { return MIRROR; }
  c10::Device exchangeDevice(c10::Device) const override { return THE_DEVICE; }
  c10::Device getDevice() const override { return THE_DEVICE; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return only_stream(); }
  c10::Stream getDefaultStream(c10::Device) const override { return only_stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return only_stream(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Hooks final : at::PrivateUse1HooksInterface {
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  void init() const override {}
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return at::detail::getDefaultCPUGenerator();
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::detail::createCPUGenerator();
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    auto memory = allocator.allocate(bytes);
    if (bytes && storage.data()) {
      memcpy(memory.get(), storage.data(), std::min(bytes, storage.nbytes()));
    }
    storage.unsafeGetStorageImpl()->set_data_ptr(std::move(memory));
    storage.unsafeGetStorageImpl()->set_nbytes(bytes);
  }
};
Hooks hooks;

// The same memory as a tensor of the CPU.
Tensor on_cpu(const Tensor& x) {
  const auto options = x.options().device(at::kCPU);
  if (x.device() != THE_DEVICE) return x;
  if (x.numel() == 0) return at::empty(x.sizes(), options);
  return at::from_blob(const_cast<void*>(x.const_data_ptr()), x.sizes(), x.strides(), options);
}

using Maybe = std::optional<Tensor>;
Maybe on_cpu_if_any(const Maybe& x) {
  return x && x->defined() ? Maybe(on_cpu(*x)) : std::nullopt;
}

Tensor on_mirror(const Tensor& x) {
  if (!x.defined()) return x;
  auto out = at::empty_strided(x.sizes(), x.strides(), x.options().device(THE_DEVICE));
  on_cpu(out).copy_(x);
  return out;
}

void check_one_device(const Tensor& x, const Tensor& weight) {
  TORCH_CHECK(x.device() == weight.device(), "Expected all tensors to be on the same device, but found ",
              x.device(), " and ", weight.device());
}

using Type = std::optional<at::ScalarType>;
using Layout = std::optional<at::Layout>;
using Device = std::optional<at::Device>;
const c10::DispatchKeySet KEYS(c10::DispatchKey::PrivateUse1);

Tensor empty(at::IntArrayRef size, Type type, Layout, Device, std::optional<bool>,
             std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator, KEYS, c10::dtype_or_default(type), format);
}
Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, Type type, Layout, Device,
                     std::optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &allocator, KEYS, c10::dtype_or_default(type));
}
Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  on_cpu(to).copy_(on_cpu(from));
  return to;
}
Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}
at::Scalar number(const Tensor& x) { return on_cpu(x).item(); }

// Views, which the CPU cannot give back.
Tensor as_strided(const Tensor& x, Sizes size, Sizes stride, std::optional<c10::SymInt> offset) {
  return at::cpu::as_strided_symint(x, size, stride, offset);
}
Tensor view(const Tensor& x, Sizes size) {
  return at::native::view(x, C10_AS_INTARRAYREF_SLOW(size));
}
Tensor reshape_alias(const Tensor& x, Sizes size, Sizes stride) {
  return at::native::_reshape_alias(x, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}
const Tensor& resize(const Tensor& x, Sizes size, std::optional<at::MemoryFormat> format) {
  return at::native::resize_(x, C10_AS_INTARRAYREF_SLOW(size), format);
}
Tensor& set_source(Tensor& x, at::Storage source, c10::SymInt offset, Sizes size, Sizes stride) {
  auto* impl = x.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(source);
  impl->set_storage_offset(offset.expect_int());
  if (stride.size() == size.size()) {
    impl->set_sizes_and_strides(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
  } else {
    impl->set_sizes_contiguous(C10_AS_INTARRAYREF_SLOW(size));
  }
  return x;
}
Tensor& set_storage(Tensor& x, at::Storage source) {
  const std::vector<c10::SymInt> size = {static_cast<int64_t>(source.nbytes() / x.itemsize())};
  return set_source(x, source, 0, size, {});
}

// Convolutions, for which PyTorch asks other devices.
Tensor convolution(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, Sizes stride,
                   Sizes padding, Sizes dilation, bool transposed, Sizes output_padding, c10::SymInt groups) {
  check_one_device(x, weight);
  return on_mirror(at::convolution_symint(on_cpu(x), on_cpu(weight), on_cpu_if_any(bias), stride, padding, dilation,
                                          transposed, output_padding, groups));
}
using Three = std::tuple<Tensor, Tensor, Tensor>;
Three pull_convolution(const Tensor& gradient, const Tensor& x, const Tensor& weight, Sizes stride,
                           Sizes padding, Sizes dilation, bool transposed, Sizes output_padding,
                           c10::SymInt groups, std::array<bool, 3> wanted) {
  check_one_device(x, weight);
  check_one_device(gradient, weight);
  const std::vector<c10::SymInt> bias = {weight.sym_size(transposed ? 1 : 0)};
  auto [on_x, on_weight, on_bias] = at::convolution_backward_symint(
      on_cpu(gradient), on_cpu(x), on_cpu(weight), bias, stride, padding, dilation, transposed,
      output_padding, groups, wanted);
  return {on_mirror(on_x), on_mirror(on_weight), on_mirror(on_bias)};
}
Three convolution_backward(const Tensor& gradient, const Tensor& x, const Tensor& weight,
                               at::OptionalSymIntArrayRef, Sizes stride, Sizes padding, Sizes dilation,
                               bool transposed, Sizes output_padding, c10::SymInt groups,
                               std::array<bool, 3> wanted) {
  return pull_convolution(gradient, x, weight, stride, padding, dilation, transposed, output_padding,
                          groups, wanted);
}

// Batch norms, whose schema does not say that they write running statistics.
Three batch_norm(const Tensor& x, const Maybe& weight, const Maybe& bias, const Maybe& mean,
                     const Maybe& variance, bool training, double momentum, double eps) {
  auto [out, saved_mean, saved_deviation] =
      at::native_batch_norm(on_cpu(x), on_cpu_if_any(weight), on_cpu_if_any(bias), on_cpu_if_any(mean),
                            on_cpu_if_any(variance), training, momentum, eps);
  return {on_mirror(out), on_mirror(saved_mean), on_mirror(saved_deviation)};
}

void on_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  at::native::cpu_fallback(op, stack);
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>());
}
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  KERNEL_PRIVATEUSEONE(conv2d, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(linear, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(addmm, lower_precision_fp)
  KERNEL_PRIVATEUSEONE(matmul, lower_precision_fp)
}
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", number);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("unfold", at::native::unfold);
  m.impl("resize_", resize);
  m.impl("set_.source_Storage", set_storage);
  m.impl("set_.source_Storage_storage_offset", set_source);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", pull_convolution);
  m.impl("convolution_backward", convolution_backward);
  m.impl("native_batch_norm", batch_norm);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("start", [] { at::RegisterPrivateUse1HooksInterface(&hooks); });
}
