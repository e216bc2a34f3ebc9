/* delegraph_delegate.h - the delegate ABI of delegraph, version 0.2, in C.
 *
 * A plug-in is a shared library with one symbol, delegraph_delegate_entry (at the end of this file). It gives the host
 * (delegraph) a table of functions; the host asks for devices, asks which ops a device takes, has segments compiled,
 * loads them, and runs them. docs/delegates-in-c.md walks through an example. This header includes nothing but
 * <stddef.h> and <stdint.h>; it is usable from C99 and C++.
 *
 * Versions. Major 0 may change with any release. Within a major version structs only ever grow at their end, and every
 * struct begins with its size as its maker knows it. Whoever reads a struct never reads past that size, so old
 * plug-ins go on loading. What is not marked otherwise is there since 0.2, the first version of this header.
 *
 * Arrays of structs are arrays of pointers, so that a grown struct moves nothing. A count of 0 goes with any pointer.
 *
 * Ownership. What the host passes in belongs to the host and is valid during the call only, except where a comment says
 * for how long. What the plug-in returns belongs to the plug-in until the host calls the release function of its kind,
 * which it does exactly once for each object. The host copies what it keeps before that. A function that fails returns
 * no other object than its error. Strings are UTF-8 and end with NUL; a string may be NULL where that says "none".
 *
 * Release functions must not fail. The host may call them on any thread, and not in the order in which the objects were
 * made; but a context is released before its program, a program before its device. The host never calls one on a thread
 * that is within a function of the plug-in, or that the plug-in made: not from inside log, now_ns or packs->get either.
 * So a plug-in may hold a lock of its own while it calls those, and take it in its release functions.
 *
 * Threads. Functions on a delegate, a device or a program may be called by several threads at once; functions on a
 * context by one at a time. In a process that was forked off, no object made before the fork is used or released; its
 * devices are opened again there. The library is never unloaded.
 *
 * Units: sizes in bytes, times in nanoseconds. Booleans are uint32_t, 0 or 1.
 *
 * Errors. A function that can fail returns NULL when it worked, else an error. C++ exceptions must not leave a
 * function. A plug-in that crashes takes its process with it: load it with isolate=True where that matters.
 */
#ifndef DELEGRAPH_DELEGATE_H
#define DELEGRAPH_DELEGATE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DG_ABI_MAJOR 0u
#define DG_ABI_MINOR 2u

#if defined(_WIN32)
#define DG_EXPORT __declspec(dllexport)
#elif defined(__GNUC__)
#define DG_EXPORT __attribute__((visibility("default")))
#else
#define DG_EXPORT
#endif

/* What went wrong, as far as the host treats it differently. An unknown code counts as DG_INTERNAL. */
enum {
  DG_UNSUPPORTED = 1,       /* only from compile, for what check refuses */
  DG_INVALID = 2,           /* the arguments break a rule of this header */
  DG_OUT_OF_MEMORY = 3,     /* the segment may run elsewhere */
  DG_DEVICE_LOST = 4,       /* the host releases the device and opens it again */
  DG_TIMEOUT = 5,           /* the deadline passed, and the plug-in gave up */
  DG_ARTIFACT_REFUSED = 6,  /* only from load: made by another version, for another device, or damaged */
  DG_DEPENDENCY_FAILED = 7, /* something that it waited for failed */
  DG_INTERNAL = 8           /* everything else */
};

/* An error. Made by the plug-in, released with release_error. */
typedef struct dg_error {
  uint32_t struct_size;
  int32_t code;        /* one of the above */
  const char *message; /* a sentence for the user */
} dg_error;

/* ---- Values by name: options of the user, attributes of an op ---- */

enum { DG_BOOL = 1, DG_INT = 2, DG_FLOAT = 3, DG_TEXT = 4, DG_INTS = 5 };

typedef struct dg_option {
  uint32_t struct_size;
  int32_t type; /* DG_BOOL ... DG_INTS: which of the following holds the value */
  const char *name;
  int64_t int_value; /* DG_BOOL, DG_INT */
  double float_value; /* DG_FLOAT */
  const char *text;   /* DG_TEXT */
  const int64_t *ints; /* DG_INTS */
  size_t n_ints;
} dg_option;

/* ---- Devices ---- */

/* One device. A string that is NULL stands for "". Read by the host right after the call; see DeviceInfo in Python. */
typedef struct dg_device_info {
  uint32_t struct_size;
  uint32_t is_available; /* whether open can work; if not, reason says why and remedy what to do */
  const char *id;        /* the delegate's name, or "name:what": "acme:0"; unique */
  const char *kind;      /* "cpu", "gpu" or "accelerator" */
  const char *vendor;
  const char *driver; /* its name and version */
  const char *reason;
  const char *remedy;
  const int32_t *dtypes; /* types that it computes in, numbers of TensorType in TFLite's schema.fbs */
  size_t n_dtypes;
  const char *const *fingerprint_names; /* parts that decide whether an artifact fits: driver, instruction set, ... */
  const char *const *fingerprint_values;
  size_t n_fingerprint;
  const char *const *features; /* free words */
  size_t n_features;
  uint32_t is_virtual;   /* imagined: never chosen unless named */
  uint32_t may_hang;     /* runs are watched from another thread, and never bound to a user's memory */
  uint32_t load_may_jit; /* loading an artifact may still compile */
  uint32_t prefix_only;  /* takes only a segment that starts at the graph's inputs */
  const char *resource;  /* devices of one resource don't run at the same time; NULL: its own */
  const char *numerics;  /* "exact" (or NULL), or what differs in a sentence */
  int64_t launch_ns;     /* cost of starting one run */
  int64_t to_device_latency_ns;
  int64_t to_device_bytes_per_s; /* 0: nothing is moved */
  int64_t from_device_latency_ns;
  int64_t from_device_bytes_per_s;
  int64_t max_segments;        /* per model; -1: no limit */
  int64_t weight_budget_bytes; /* constants that fit on the device; -1: no limit */
  int64_t min_ops;             /* segments of fewer ops are not worth its launch; at least 1 */
} dg_device_info;

typedef struct dg_device_list {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  const dg_device_info *const *items;
  size_t n_items;
} dg_device_list;

/* ---- Graphs and segments, made by the host ---- */

/* A constant. Valid until the call ends; of a segment that load is called with, until that program is released. */
typedef struct dg_constant {
  uint32_t struct_size;
  int32_t tensor;       /* its number */
  const void *data;     /* as in a .tflite: little-endian, row-major, int4 two to a byte; on a multiple of 16 */
  uint64_t size_bytes;
  const uint8_t *digest; /* 32 bytes, of type, shape and data: identity across processes; NULL in supports, check */
  const char *file;      /* the file that it lies in, or NULL where the host doesn't know */
  uint64_t file_offset;
  uint32_t is_external; /* 1: left out of the segment's .tflite, where its buffer is empty */
  uint32_t reserved;
} dg_constant;

/* A tensor. Shapes are concrete. */
typedef struct dg_tensor {
  uint32_t struct_size;
  int32_t dtype; /* TensorType of TFLite's schema.fbs: 0 float32, 2 int32, 3 uint8, 9 int8, ... */
  const char *name;
  const int64_t *shape;
  size_t rank;
  uint64_t size_bytes; /* of the dense tensor in a bound buffer */
  const float *scales; /* quantization: real = scale * (q - zero_point); one, or one per channel of the axis */
  const int64_t *zero_points;
  size_t n_scales; /* 0: not quantized */
  int32_t axis;
  uint32_t is_variable;        /* state that lives across runs */
  const dg_constant *constant; /* NULL: not a constant */
  uint32_t is_sparse;          /* the constant is stored sparse; only the .tflite says how */
  uint32_t block_size;         /* 0, or blockwise quantization; only the .tflite says more */
} dg_tensor;

/* An op. Tensor numbers are positions in the graph's array of tensors. */
typedef struct dg_node {
  uint32_t struct_size;
  int32_t op; /* BuiltinOperator of TFLite's schema.fbs: 0 ADD, 9 FULLY_CONNECTED, 32 CUSTOM, ... */
  const char *name; /* "ADD", or a custom op's own name */
  int32_t version;
  int32_t index; /* of the op in the user's model, for messages */
  const int32_t *inputs; /* -1: an optional operand that was left out */
  size_t n_inputs;
  const int32_t *outputs;
  size_t n_outputs;
  const dg_option *const *options; /* the op's options by their names in the schema, defaults filled in */
  size_t n_options;
  const uint8_t *custom_options; /* of a custom op, as in the file */
  size_t n_custom_options;
} dg_node;

/* Ops in execution order, with their tensors. */
typedef struct dg_graph {
  uint32_t struct_size;
  uint32_t reserved;
  const dg_tensor *const *tensors;
  size_t n_tensors;
  const dg_node *const *nodes;
  size_t n_nodes;
} dg_graph;

/* A convex set of ops that one device runs in one go. */
typedef struct dg_segment {
  uint32_t struct_size;
  uint32_t reserved;
  const dg_graph *graph;
  const int32_t *inputs; /* tensors that it reads and does not make, without constants: the order of bind */
  size_t n_inputs;
  const int32_t *outputs; /* tensors that it has to deliver, then the new values of variables: the order of bind */
  size_t n_outputs;
  size_t n_variables; /* how many of the outputs, at their end, are variables */
  const uint8_t *tflite; /* the same as a model with one subgraph and the same tensor numbers */
  uint64_t tflite_size_bytes;
  const dg_constant *const *constants; /* every constant that the nodes read */
  size_t n_constants;
} dg_segment;

/* ---- Answers, made by the plug-in ---- */

enum { DG_NO = 0, DG_YES = 1, DG_DEVIATES = 2 }; /* deviates: it runs, with other rounding than TFLite's reference */

typedef struct dg_support {
  uint32_t struct_size;
  int32_t verdict;
  const char *constraint; /* id of the rule that decided: "acme.dtype" */
  const char *reason;     /* that rule as a sentence with what was found; of DG_DEVIATES, how the result differs */
  const char *advice;     /* what to change so that the op would run */
  const char *value;      /* what was found, as a short text */
  const char *limit;      /* what is allowed */
} dg_support;

/* Answers, one per node of the graph in its order (check: one). Released with release_answers. */
typedef struct dg_answers {
  uint32_t struct_size;
  uint32_t reserved;
  const dg_support *const *items;
  size_t n_items;
} dg_answers;

/* A compiled segment. Made by compile and released with release_artifact; made by the host for load. */
typedef struct dg_artifact {
  uint32_t struct_size;
  uint32_t reserved;
  const char *format; /* the plug-in's own name and version for the payload */
  const void *payload; /* in load on a multiple of 16 */
  uint64_t size_bytes;
  const char *const *packs; /* names of the packs that load will ask for */
  size_t n_packs;
} dg_artifact;

/* Constants in the device's own layout, kept once for all models and processes. Made by the host, for compile and load.
 * get: the pack of that name, or the one that fill writes now into size_bytes of memory; with fill NULL a missing pack
 * is an error. name: what it was made from and how, so that equal names mean equal bytes: "delegate/layout/digest".
 * Returns a code, 0 when it worked. The memory found stays the host's, is never written, and is valid until the call
 * ends; where load asked for it, until that program is released. */
typedef int32_t (*dg_fill)(void *user, void *memory, uint64_t size_bytes); /* 0 when it worked */
typedef struct dg_packs {
  uint32_t struct_size;
  uint32_t reserved;
  void *self; /* to be passed on */
  int32_t (*get)(void *self, const char *name, dg_fill fill, void *user, uint64_t size_bytes, const void **found,
                 uint64_t *found_size_bytes);
} dg_packs;

/* Memory of the host for one tensor or for scratch. */
typedef struct dg_buffer {
  uint32_t struct_size;
  uint32_t reserved;
  void *data;
  uint64_t size_bytes;
} dg_buffer;

/* ---- The two tables ---- */

/* What the host offers. Valid for ever. */
typedef struct dg_host_api {
  uint32_t struct_size;
  uint32_t abi_major;
  uint32_t abi_minor;
  uint32_t reserved;
  void (*log)(int32_t level, const char *message); /* level: 10 debug, 20 info, 30 warning, 40 error; any thread */
  int64_t (*now_ns)(void);                         /* the clock that deadlines are given in; any thread */
} dg_host_api;

/* When the process ends, a thread of the plug-in's own that is in log or now_ns, or calls one then, may never return
 * from it. So it should hold no lock there that a destructor, an atexit handler or a release function waits for; such
 * handlers call nothing of the host, and wait for no thread that may. A plug-in that wants its threads ended in order
 * ends them when its last device is released, and has them log only while a device is open. */

#define DG_NO_DEADLINE INT64_MAX

typedef struct dg_device dg_device;   /* the plug-in's own; it defines these structs */
typedef struct dg_program dg_program;
typedef struct dg_context dg_context;

/* What the plug-in offers. Stays valid and unchanged for ever. Functions must not be NULL unless marked optional. */
typedef struct dg_delegate_api {
  uint32_t struct_size;
  uint32_t abi_major; /* the version that the plug-in was built for: DG_ABI_MAJOR */
  uint32_t abi_minor; /* DG_ABI_MINOR */
  uint32_t reserved;
  const char *name;    /* short and lower-case: devices are called "name" or "name:..." */
  const char *version; /* part of every cache key: a new one makes artifacts anew */

  void (*release_error)(dg_error *error);

  /* Every device, also the unusable ones with reason and remedy. Quick after the first call. */
  dg_error *(*devices)(const dg_option *const *options, size_t n_options, const dg_device_list **out);
  void (*release_devices)(const dg_device_list *list);

  /* Opens a device of that list. */
  dg_error *(*open)(const char *id, const dg_option *const *options, size_t n_options, dg_device **out);
  void (*release_device)(dg_device *device);

  /* Which nodes the device takes: one call for the whole graph, the same answers each time. */
  dg_error *(*supports)(dg_device *device, const dg_graph *graph, const dg_answers **out);
  void (*release_answers)(const dg_answers *answers);

  /* The segment as bytes that load takes, in this process or another. Deterministic in results.
   * deadline_ns: of host->now_ns(), or DG_NO_DEADLINE; the plug-in may give up with DG_TIMEOUT. */
  dg_error *(*compile)(dg_device *device, const dg_segment *segment, const dg_packs *packs,
                       const dg_option *const *options, size_t n_options, int64_t deadline_ns,
                       const dg_artifact **out);
  void (*release_artifact)(const dg_artifact *artifact);

  /* The program of an artifact, which may be damaged or foreign: DG_ARTIFACT_REFUSED. The artifact's payload is valid
   * during the call; the segment's constants (not its other parts) until the program is released. */
  dg_error *(*load)(dg_device *device, const dg_artifact *artifact, const dg_segment *segment, const dg_packs *packs,
                    dg_program **out);
  void (*release_program)(dg_program *program);

  /* Working memory that each context needs, which the host lends; alignment of scratch and of bound buffers: a power
   * of two up to 4096. Called once after load. */
  uint64_t (*scratch_bytes)(const dg_program *program);
  uint32_t (*alignment)(const dg_program *program);

  /* One caller's private execution. scratch: its own until it is released; undefined contents. */
  dg_error *(*context)(dg_program *program, const dg_buffer *scratch, dg_context **out);
  void (*release_context)(dg_context *context);

  /* Sets the memory of the segment's inputs and outputs, dense and row-major, valid until the next bind, until unbind
   * has returned, or until the context is released: whatever comes first. Inputs are never written. */
  dg_error *(*bind)(dg_context *context, const dg_buffer *const *inputs, size_t n_inputs,
                    const dg_buffer *const *outputs, size_t n_outputs);

  /* Runs once; returns when every output is complete, or with an error. */
  dg_error *(*run)(dg_context *context, int64_t deadline_ns);

  /* Optional: what only the whole segment shows, as one answer; its ops were all supported. NULL: always yes. */
  dg_error *(*check)(dg_device *device, const dg_segment *segment, const dg_answers **out);

  /* Optional: writes each node's time without copies and launch to time_ns[i], or -1 where it has no idea. */
  dg_error *(*estimate)(dg_device *device, const dg_graph *graph, int64_t *time_ns);

  /* Optional: lets go of the memory that was bound, which the host may then free; bind comes before the next run.
   * Called after a run; must not fail. NULL, or a table that ends before it: the host keeps that memory until the next
   * bind. */
  void (*unbind)(dg_context *context);
} dg_delegate_api;

/* The one symbol of a plug-in. Sets *out and returns 0; or returns a code when it can't work with this host.
 * Called once, before everything else. host_major, host_minor: the host's version, also in *host. */
typedef int32_t (*dg_entry)(uint32_t host_major, uint32_t host_minor, const dg_host_api *host,
                            const dg_delegate_api **out);
DG_EXPORT int32_t delegraph_delegate_entry(uint32_t host_major, uint32_t host_minor, const dg_host_api *host,
                                           const dg_delegate_api **out);

#ifdef __cplusplus
}
#endif
#endif
