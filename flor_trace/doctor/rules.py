"""What doctor looks for in sources: calls by their full names, and what each means for a replay."""

from __future__ import annotations

from dataclasses import dataclass

from flor_trace.doctor.findings import INEXACT, REMARK


@dataclass(frozen=True)
class Rule:
    """Calls of functions whose full name is in `names`, or begins with one of those that end with a dot."""

    name: str
    grade: str
    names: tuple[str, ...]
    what: str
    effect: str
    advice: str

    def matches(self, callee: str) -> bool:
        """Whether the rule speaks of a callee such as `torch.nn.functional.interpolate`."""
        return any(callee.startswith(n) if n.endswith(".") else callee == n for n in self.names)


RULES = (
    Rule(
        "network", INEXACT,
        ("socket.socket", "socket.create_connection", "requests.", "httpx.", "urllib.request.", "http.client.", "urllib3.", "aiohttp.",
         "boto3.", "redis.", "pymongo.", "psycopg.", "psycopg2.", "pymysql.", "mysql.", "zmq.", "grpc.", "paramiko."),
        "{callee}: data from the network or a database server",
        "what comes back is not recorded: replay asks again, and whatever the answer changes will differ",
        "fetch it into a file before the training, and read the file",
    ),
    Rule(
        "threads", INEXACT,
        ("threading.Thread", "threading.Timer", "concurrent.futures.ThreadPoolExecutor", "multiprocessing.pool.ThreadPool",
         "multiprocessing.dummy.Pool", "_thread.start_new_thread"),
        "{callee}: a thread of the script's own",
        "threads cannot be captured, and what they change is not in step with the loops: a snapshot may hold half of it",
        "let no thread change what the training reads, or join it before each iteration of the outermost loop ends",
    ),
    Rule(
        "processes", INEXACT,
        ("subprocess.", "os.system", "os.popen", "os.fork", "os.spawn", "os.posix_spawn", "pty.spawn", "multiprocessing.Process",
         "multiprocessing.Pool", "concurrent.futures.ProcessPoolExecutor", "joblib.Parallel", "torch.multiprocessing.spawn",
         "torch.multiprocessing.Process", "multiprocessing.get_context"),
        "{callee}: other processes",
        "they are started again by replay and are not recorded: what they answer may differ, and processes that live through an iteration "
        "cannot be restored",
        "start and end them within one iteration, and let their answers depend on nothing but their arguments",
    ),
    Rule(
        "distributed", INEXACT,
        ("torch.distributed.init_process_group", "torch.nn.parallel.DistributedDataParallel", "accelerate.Accelerator",
         "deepspeed.initialize"),
        "{callee}: several processes that exchange gradients",
        "each process is recorded as a run of its own, and replay refuses one of several, which would wait for the others for ever",
        "record with one process to replay; the log of each process is in `flor_trace logs`",
    ),
    Rule(
        "entropy", INEXACT,
        ("secrets.choice", "secrets.SystemRandom", "random.SystemRandom", "numpy.random.bit_generator.randbits", "os.getrandom"),
        "{callee}: the system's entropy, outside what is recorded",
        "replay draws other values",
        "use random, numpy.random or torch, whose generators are captured",
    ),
    Rule(
        "entropy", INEXACT,
        ("ctypes.CDLL", "ctypes.cdll.LoadLibrary", "cffi.FFI"),
        "{callee}: native code of the script's own",
        "state and random numbers inside native libraries are neither captured nor recorded",
        "keep such state in NumPy arrays or torch tensors, and draw random numbers in Python",
    ),
    Rule(
        "foreign-random", INEXACT,
        ("cupy.random.", "tensorflow.random.", "numba.", "mxnet.random.", "paddle.seed", "pyro.set_rng_seed"),
        "{callee}: a library with random numbers of its own",
        "the state of its generator is not captured, so that what it draws after a jump differs",
        "draw from random, numpy.random or torch, or seed that library anew in every iteration",
    ),
    Rule(
        "standard-input", INEXACT,
        ("input", "sys.stdin.read", "sys.stdin.readline", "sys.stdin.readlines", "getpass.getpass"),
        "{callee}: the standard input is read",
        "replay's standard input is empty",
        "take it from an argument or a file",
    ),
    Rule(
        "signals", INEXACT,
        ("signal.alarm", "signal.setitimer"),
        "{callee}: a timer interrupts the training",
        "it goes off elsewhere in replay, where loops are skipped or take another time",
        "count iterations instead, or compare time.time() in the loop, which is recorded",
    ),
    Rule(
        "cuda-graphs", INEXACT,
        ("torch.cuda.CUDAGraph", "torch.cuda.graph", "torch.cuda.make_graphed_callables"),
        "{callee}: a captured CUDA graph",
        "it holds addresses of memory: a snapshot behind its capture cannot be restored into another process",
        "record without it, or expect replay to begin at the start of that loop",
    ),
    Rule(
        "identity", REMARK,
        ("id", "os.getpid", "os.getppid", "threading.get_ident", "threading.get_native_id", "os.uname", "platform.node",
         "socket.gethostname"),
        "{callee}: what differs from process to process, or from machine to machine",
        "replay has another value: printed, it is a line that differs; computed with, it is a divergence (only an id that stands for an "
        "object, as a key of a dict does, is restored)",
        "print or use something else, such as a name or a count of your own",
    ),
    Rule(
        "hidden-state", REMARK,
        ("zlib.compressobj", "zlib.decompressobj", "bz2.BZ2Compressor", "bz2.BZ2Decompressor", "lzma.LZMACompressor",
         "lzma.LZMADecompressor", "sqlite3.connect", "queue.SimpleQueue"),
        "{callee}: an object whose state cannot be seen",
        "a snapshot at which it is alive is not restored: replay executes from an earlier one instead, slower and as exact",
        "make and close it within one iteration, or outside of the training",
    ),
    Rule(
        "compiled", REMARK,
        ("torch.compile", "torch.jit.script", "torch.jit.trace", "torch.export.export"),
        "{callee}: compiled code",
        "statements added inside compiled functions change what is compiled, and loops inside are never skipped",
        "add your print outside of the compiled function",
    ),
    Rule(
        "library-loop", REMARK,
        ("transformers.Trainer", "lightning.Trainer", "pytorch_lightning.Trainer", "lightning.pytorch.Trainer", "keras.Model",
         "ignite.engine.Engine", "fastai."),
        "{callee}: the training loop is in an installed library",
        "no snapshot is taken inside it unless that library is instrumented, so that replay executes the whole training again",
        "record with --instrument and the library's name",
    ),
    Rule(
        "trackers", REMARK,
        ("wandb.init", "mlflow.start_run", "comet_ml.Experiment", "neptune.init_run", "clearml.Task.init", "aim.Run", "swanlab.init"),
        "{callee}: an experiment tracker",
        "it works offline in replay, and nothing of a replay reaches its server",
        "nothing need be done",
    ),
)  # fmt: skip
