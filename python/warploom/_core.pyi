"""The C++ core. Arrays are C-contiguous NumPy arrays; activations NCHW float32; weights in PyTorch's shapes."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

class Error(Exception): ...  # the root of all
class DeviceError(Error, RuntimeError): ...
class OutOfMemoryError(DeviceError, MemoryError): ...
class KernelFault(DeviceError): ...  # found by the checked emulator
class UnsupportedError(Error, RuntimeError): ...  # a version refuses a shape; the text names the precondition
class GraphError(Error, ValueError): ...  # malformed graph or mismatched shapes; the text names the layer

class DeviceArray:
    """An array in a device's memory, dense and in C order; owned, or shared with whoever made it (exported as warploom.Array)."""
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def pointer(self) -> int: ...
    @property
    def writable(self) -> bool: ...
    @property
    def on_host(self) -> bool:
        """Whether Python can look into its memory (cpu and the emulated devices)."""
    def __len__(self) -> int: ...
    def __float__(self) -> float: ...
    def __getitem__(self, rows: int | slice) -> DeviceArray:
        """A row, or rows one after the other: the same memory."""
    def reshape(self, *shape: Any) -> DeviceArray:
        """The same memory."""
    def copy(self) -> DeviceArray: ...
    def assign(self, source: DeviceArray | Array) -> None:
        """Copies an array of the same shape and type into this one."""
    def to(self, device: str) -> DeviceArray:
        """Itself if it lies there, else a copy."""
    def numpy(self) -> Array:
        """A view where it lies on the host, else a copy."""
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array: ...
    def __buffer__(self, flags: int) -> memoryview: ...
    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

def array_empty(shape: tuple[int, ...], dtype: Any, device: str) -> DeviceArray: ...
def array_from_host(array: Array, device: str) -> DeviceArray:
    """A copy on the device."""

def array_on_host(array: Array, device: str = "cpu") -> DeviceArray:
    """The same memory; the array must be in C order."""

def array_borrowed(
    device: str, pointer: int, shape: tuple[int, ...], dtype: np.dtype[Any], writable: bool, owner: object
) -> DeviceArray:
    """Memory that `owner` keeps alive."""

def array_from_dlpack(capsule: object, device: str) -> DeviceArray: ...
def device_of(pointer: int) -> str:
    """ "cuda:N" for memory of that GPU, else ""."""

def stream_of(device: str) -> int:
    """The handle of the stream the device's work is put on; 0 for the host."""

def wait_for(device: str, stream: int, waits: int = 0) -> None:
    """The device's work from now on waits for what the stream has been given (1: the legacy default stream, 2: per thread).
    waits: another stream of the device that is to wait instead."""

def libraries() -> list[dict[str, Any]]:
    """Device libraries beside the package: {"kind", "path", "usable": bool, "why": str, "devices": [info], "versions": [names]}.
    kind is "cpu", "cuda", "emulated", "emulated:checked" or "emulated:counting"; info holds name, compute_major, compute_minor,
    multiprocessors, memory_bytes."""

def add_library(path: str) -> None:
    """Loads one more device library; DeviceError where it is none, or has no usable device here."""

def return_freed_memory() -> bool:
    """What was freed goes back to the system where the allocator (glibc's) had kept it for itself; whether anything did."""

def counters(order: str) -> str:
    """What the counting emulated device is told ("start BLOCKS run|skip CALLS", "stop") and answers ("report": JSON)."""

def versions() -> list[dict[str, Any]]:
    """Every version any library holds: {"name", "summary", "layout": "nchw"|"nhwc", "weight_layout", "kinds": [device kinds],
    "float32_from": the version whose float32 convolutions it takes over, or "", "own": the entries that it does not take from
    that version, "compute_capability": the only one of a GPU that it runs on, as 90 for 9.0, or 0, "gradients_read_y": whether
    the gradients of a convolution want its output where an activation is folded in}."""

def entries() -> list[dict[str, Any]]:
    """Every operation: {"name", "tensors": [{"name", "role": "in"|"out"|"inout", "optional": bool}], "attributes": [names]}."""

def why_not(device: str, version: str, entry: str, attributes: dict[str, Any]) -> str:
    """ "" if the version takes the operation with these attributes, else one sentence."""

def demangle(symbol: str) -> str:
    """A C++ name as it was written; the symbol itself if it is none."""

def needs(device: str, version: str, entry: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """{"workspace": bytes, "saved": bytes kept from forward for backward, "algorithm": which of several ways, or ""}."""

def call(
    device: str,
    version: str,
    entry: str,
    attributes: dict[str, Any],
    inputs: dict[str, Any],
    outputs: list[str] | None = None,
    guard: bool = False,
    repeat: int = 0,
    keep: bool = False,
    offset: int = 0,
    over: dict[str, str] = ...,
) -> dict[str, Any]:
    """One entry of one version, raw: buffers in the version's own layouts, flat. Returns every requested output (all mandatory
    ones by default) and every updated inout as flat arrays. guard=True: outputs and workspace start as NaN between guard bands,
    which are checked afterwards, and inputs must be unchanged (KernelFault). repeat>0: runs that many times more, on a GPU with a
    cold L2 cache, adds "milliseconds": f64[repeat], and checks that the outputs kept their bits (KernelFault). Inputs may be
    DeviceArrays of that device, which are read in place. keep=True: the results stay on the device, as DeviceArrays.
    offset: bytes by which inputs lie off the grid of allocations, for tests of kernels that load many bytes at a time.
    over: outputs that stand where an input does ({"dx": "x"}), for tests with guard; returned under the input's name."""

class Graph:
    def __init__(self, name: str = "model") -> None: ...
    def input(self, name: str, shape: tuple[int, ...]) -> int:
        """A value fed by the user; shape without the batch axis. Returns the value's id."""
    def parameter(
        self,
        name: str,
        shape: tuple[int, ...],
        *,
        init: str = "zeros",
        fan_in: int = 0,
        fan_out: int = 0,
        gain: float = 1.0,
        trainable: bool = True,
        buffer: bool = False,
    ) -> int:
        """shape in PyTorch's order. buffer: saved with the parameters but not learned, such as running
        statistics. init: zeros, ones, he_normal, he_uniform, glorot_uniform, uniform_fan_in. Returns its id."""
    def node(self, op: str, name: str, inputs: list[int], parameters: list[int], attributes: dict[str, Any]) -> list[int]:
        """Adds one operation; infers and returns its output values. GraphError names the layer. Operations and attributes:
        conv2d      parameters [weight] or [weight, bias]; stride [h, w], padding [top, bottom, left, right], groups
        conv_transpose2d  parameters [weight (C_in, C_out/groups, KH, KW)] or [weight, bias]; stride [h, w], padding [h, w],
                    output_padding [h, w], groups
        linear      parameters [weight (out, in)] or [weight, bias]; the input is a vector
        batch_norm  parameters [weight, bias, running_mean, running_var]; momentum, eps
        rms_norm    eps; over all axes but the batch
        max_pool2d, avg_pool2d  kernel [h, w], stride [h, w]
        concat      2 to 8 inputs, along the channels
        add         2 or more inputs of one shape
        multiply    a, b: one shape, or b with one channel
        depth_to_space  block, order "dcr" | "crd"
        reshape     shape
        upsample    scale [h, w], mode "nearest" | "bilinear"
        activation  kind, negative_slope (see kernels/ops/activation/args.h)
        identity    (a name for a value, such as the latent)
        and what else has a kernels/ops/<name>/graph.cpp, whose first lines say parameters and attributes"""
    def set_outputs(self, values: list[int]) -> None: ...
    def set_trainable(self, parameter: int, trainable: bool) -> None: ...
    def shape(self, value: int) -> tuple[int, ...]: ...
    def describe(self) -> dict[str, Any]:
        """{"name", "inputs": [value ids], "outputs": [value ids], "values": [{"name","shape","producer"}], "parameters":
        [{"id","name", "shape","init","fan_in","fan_out","gain","trainable","buffer"}], "nodes":
        [{"name","op","inputs","outputs","parameters","attributes",
        "output_shapes","macs","kernel","stride","padding","upsample","bilinear","transposed","global"}]}; all JSON-able."""

class AugmentedBatch:
    """Instead of a session's input, without targets: images from which the device makes the input and the target."""

    def __init__(self, images: Array, numbers: NDArray[np.int32], epoch: int, changes: dict[str, Any]) -> None:
        """numbers: of the samples. changes: as load_data() takes its augmentation."""
    def __len__(self) -> int: ...

class Session:
    """A graph bound to a device and a version, with its parameters. Plans are made per batch size, on first use or by
    prepare()."""

    def __init__(
        self,
        graph: Graph,
        device: str,
        version: str,
        *,
        losses: list[dict[str, Any]] | None = None,
        optimizer: dict[str, Any] | None = None,
        precision: str = "fp32",
        seed: int = 0,
        allocate: bool = True,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        """allocate=False: for memory() and explain() only.
        part: (rank, size): the states of that part of the parameters alone are kept here, and update() changes it alone.
        precision: "fp32", "fp32-exact" (sums of products only: no Winograd and its like), "tf32", "bf16", "fp16". Plans of the
        latter two store maps in 16 bits where all operations on them take that.
        losses: [{"kind": "mse", "l1", ... (those of kernels/ops/*/loss.cpp), "output": index of a graph output, "target": target
        index, "weight": 1.0, "sigmoid": one goes first, "mask": index of a target of one channel that multiplies output and
        target, or -1; and the numbers of its kind; class_weight (list) where it has classes}]; the index counts the arrays of
        `targets`, or the graph's inputs when the targets are the inputs.
        optimizer: {"kind": "sgd", "adam", ... (those of kernels/ops/*/optimizer.cpp), their hyper-parameters, and max_norm (clips
        the gradient's global norm; 0: off)}."""
    @property
    def device(self) -> str: ...
    @property
    def version(self) -> str: ...
    def initialize(self, seed: int) -> None:
        """Draws the parameters anew; training steps draw from this seed too (dropout)."""
    def prepare(self, batch: int, training: bool) -> None: ...
    def memory(self, batch: int, training: bool, places: int = 0) -> dict[str, int]:
        """places: of so many shards that meet. Bytes: weights, weight_gradients, optimizer_state; activations, gradients, saved,
        workspace alive at the fullest step;
        fragmentation; total; total_without_reuse; data (resident data sets, not in the total). Planning only: allocates
        nothing."""
    def explain(self, batch: int, training: bool) -> list[dict[str, Any]]:
        """The plan's steps in order: {"entry", "node", "backward", "version", "fusion": {"activation","pool","upsample", and
        how a convolution's maps are stored: "x_type","y_type"}, "algorithm": which of the version's ways, or "", "workspace",
        "bytes"}."""
    def buffers(self, batch: int, training: bool) -> list[dict[str, Any]]:
        """What lies in the plan's arena: {"name", "category" (activations, gradients, saved, workspace), "bytes", "dtype" (of a
        map or its gradient: "f32", "bf16", "f16"), "offset", "first_step", "last_step"}: the steps, counted from 0, between which
        the contents matter. Buffers that are never alive at the same step may lie at the same place."""
    def refusals(self, batch: int, training: bool) -> list[str]:
        """Fusions that the version refused, a sentence each."""
    def set_optimizer(self, **hyper: float) -> None: ...
    # Data from outside, one batch at a time: float32, or uint8 (scaled by 1/255 on the device). DeviceArrays of the session's
    # device are read in place.
    # targets == []: reconstruct the inputs.
    def cut_buckets(self, elements: int) -> list[tuple[int, int]]:
        """Cuts the flat gradient into buckets of at most so many elements (0: one of all); (first, count) of each, in the order
        in which backward finishes them, which the network alone decides."""
    def train_step(
        self,
        inputs: list[Array],
        targets: list[Array],
        update: bool = True,
        shard: int = 0,
        ready: Callable[[int], object] | None = None,
        place: int = -1,
    ) -> None:
        """One step; no wait. loss() waits. update=False: the gradients only. shard: which part of a larger batch this is;
        dropout draws by it. ready(n): called within backward when the first n buckets are final (in the order of the device's
        work), before the rest of it is put on the device; it may read them by this session's methods. place: the shard meets
        others at batch norms and waits at the first of its meetings(), in memory of that number."""
    def loss(self) -> float:
        """The last step's loss."""
    def losses(self) -> list[float]:
        """The last step's value of each loss, weighted."""
    def gradient_norm(self) -> float:
        """The global norm before clipping at the last step; 0 without clipping."""
    def target_shapes(self) -> list[tuple[int, ...]]:
        """By target index. Labels of cross_entropy: the output's shape without the classes, float32 class numbers."""
    def take_mean_loss(self) -> tuple[float, int]:
        """(mean loss over samples, samples) since the last take; resets."""
    def gradients(self, inputs: list[Array], targets: list[Array], eval_mode: bool = False) -> dict[str, Array]:
        """eval_mode: normalisations use their running statistics, which stay; else the batch's, which move them."""
    def evaluate_step(self, inputs: list[Array], targets: list[Array]) -> None: ...
    def predict(self, inputs: list[Array], values: list[int] | None = None, out: list[DeviceArray] | None = None) -> list[Any]:
        """The graph's outputs, or the given values of it (only what they need is computed); into `out`, arrays of the
        session's device, if given."""
    # Data that lives on the device (reconstruction: target == input)
    def load_data(self, slot: str, images: Array, augmentation: dict[str, Any] | None = None) -> None:
        """uint8 (scaled by 1/255 on the device) or float32 [M, C, H, W]; the slot is any name. augmentation: "flip", "shift",
        "noise" (with pixels from 0 to 1), "cutout" and "seed" of augment_images, by which inputs and targets are made."""
    def drop_data(self, slot: str) -> None:
        """Frees what load_data() took; nothing where the slot is empty."""
    def begin_epoch(self, slot: str, order: NDArray[np.int32], epoch: int = 0) -> None: ...
    def train_next(
        self,
        count: int,
        slot: str = "train",
        update: bool = True,
        shard: int = 0,
        ready: Callable[[int], object] | None = None,
        place: int = -1,
    ) -> None:
        """The next `count` rows of the order: gather, forward, loss, backward, update; no wait."""
    def evaluate_next(self, count: int, slot: str = "test") -> None: ...
    @property
    def replays(self) -> int:
        """How many steps, or pieces of one, were a replay of a recorded one (on cuda, a CUDA graph); WARPLOOM_RECORD=0 turns
        that off."""
    @property
    def recording_failure(self) -> str:
        """Why the device could not record a step, so that each is made of calls; "" where it can."""
    def synchronize(self) -> None: ...
    # Shards that wait for each other, each in a place
    def meetings(self) -> list[tuple[int, bool]]:
        """(numbers, in backward) of each meeting of a training step, in order. Forward a batch norm's mean [C], its sum of
        squares around that [C], and how many values each is of; backward the sums of g [C] and of g * (x - mean) [C]."""
    def read_meeting(self, place: int, out: NDArray[np.float64]) -> None:
        """What the shard there brings to the meeting at which it waits; waits for it."""
    def write_meeting(self, place: int, numbers: NDArray[np.float64]) -> None:
        """What all shards brought, as one."""
    def go_on(self, place: int) -> None:
        """To the next meeting, or to the end of the step."""
    def take_gradients(self, place: int) -> None:
        """At the end: to the flat gradient, over what stands there. Place 0 computes there, so it is taken first."""
    # Steps in parts: gradients without update, the flat buffers, and the update by what stands in them
    def update(self) -> None: ...
    @property
    def steps(self) -> int:
        """Taken by the optimizer; waits."""
    @property
    def state_range(self) -> tuple[int, int]:
        """The elements whose optimizer state is kept here and which update() changes: all, or the `part` of the constructor."""
    def flat_array(self, space: str) -> DeviceArray:
        """The flat buffer itself: writing to it changes the session."""
    def add_into(self, to: DeviceArray, more: DeviceArray, stream: int = 0) -> None:
        """to += more, after the device's work so far, or after that of another of its streams; no wait. float32, of one size."""
    def multiply_into(self, to: DeviceArray, from_: DeviceArray, by: DeviceArray) -> None:
        """to = from_ * by; no wait."""
    def get_from(self, space: str, name: str) -> Array:
        """The elements of a flat buffer ("weights", "gradients") at a parameter's place, in the parameter's shape."""
    def set_in(self, space: str, name: str, value: Array) -> None: ...
    @property
    def trainable_count(self) -> int:
        """Elements of the flat gradient, gaps included; those of the flat weights begin with the same ones."""
    @property
    def state_names(self) -> list[str]: ...
    def parameter_layout(self) -> list[tuple[str, int, int, bool, bool]]:
        """(name, first element in the flat weights, elements, trainable, buffer)."""
    def read_flat(self, space: str, first: int, out: NDArray[np.float32]) -> None:
        """Elements of "weights", "gradients" or a state of the optimizer, as the device orders them; waits."""
    def write_flat(self, space: str, first: int, values: NDArray[np.float32]) -> None: ...
    # Parameters and state
    def get_parameter(self, name: str) -> Array: ...
    def set_parameter(self, name: str, value: Array) -> None: ...
    def optimizer_state(self) -> dict[str, Array]:
        """{"<state>/<parameter>": array, and "step": the number of steps taken, int32[1]}."""
    def set_optimizer_state(self, state: dict[str, Array]) -> None: ...
    def profile_step(self, batch: int, repeat: int) -> list[dict[str, Any]]:
        """Median milliseconds per plan step of a training step on random data: explain() plus "milliseconds"."""
