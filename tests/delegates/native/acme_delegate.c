/* A delegate in C: float32 ADD and FULLY_CONNECTED on imaginary devices "acme:0", "acme:1" and the broken "acme:2".
 *
 * docs/delegates-in-c.md walks through this file. It shows the whole way of a segment: which ops are taken and why not,
 * an artifact that another process can load, weights in a layout of the device's own (a pack), and runs. It needs no
 * FlatBuffer: all that it wants to know of a segment is in the header's structs.
 *
 *   cc -std=c99 -shared -fPIC -I core/abi/native tests/delegates/native/acme_delegate.c -o libacme.so
 */
#define _POSIX_C_SOURCE 199309L

#include "delegraph_delegate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acme_faults.h"

enum { OP_ADD = 0, OP_FULLY_CONNECTED = 9, FLOAT32 = 0, NONE = 0, RELU = 1, RELU6 = 3 };

static const dg_host_api *host;
static long live_objects; /* made and not released yet: a test wants it to be 0 at the end */
DG_EXPORT long acme_live_objects(void);
DG_EXPORT long acme_live_objects(void) { return live_objects; }

/* ---- Errors: one allocation each, with the message behind the struct ---- */

static dg_error out_of_memory = {sizeof(dg_error), DG_OUT_OF_MEMORY, "no memory"};

static dg_error *fail(int32_t code, const char *message) {
  size_t n = strlen(message) + 1;
  dg_error *error = malloc(sizeof *error + n);
  if (error == NULL) return &out_of_memory;
  live_objects++;
  error->struct_size = sizeof *error;
  error->code = code;
  error->message = memcpy((char *)(error + 1), message, n);
  return error;
}

static void release_error(dg_error *error) {
  if (error == &out_of_memory) return;
  live_objects--;
  free(error);
}

static void *make(size_t size) {
  void *made = calloc(1, size);
  if (made != NULL) live_objects++;
  return made;
}

static void release(void *object) {
  live_objects--;
  free(object);
}

/* ---- Devices ---- */

struct dg_device {
  acme_faults faults;
};

static const int32_t dtypes[] = {FLOAT32};
static const char *const fingerprint_names[] = {"firmware"};
static const char *const fingerprint_values[] = {"7"};

static dg_device_info describe(const char *id, uint32_t may_hang) {
  dg_device_info info;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;
  info.id = id;
  info.kind = "accelerator";
  info.vendor = "ACME";
  info.driver = "acme 1.0";
  info.is_available = 1;
  info.may_hang = may_hang;
  info.dtypes = dtypes;
  info.n_dtypes = 1;
  info.fingerprint_names = fingerprint_names;
  info.fingerprint_values = fingerprint_values;
  info.n_fingerprint = 1;
  info.launch_ns = 20000;
  info.max_segments = -1;
  info.weight_budget_bytes = -1;
  info.min_ops = 1;
  return info;
}

static dg_device_info infos[3];
static const dg_device_info *const info_pointers[] = {&infos[0], &infos[1], &infos[2]};
static const dg_device_list device_list = {sizeof(dg_device_list), 0, info_pointers, 3};

static dg_error *devices(const dg_option *const *options, size_t n_options, const dg_device_list **out) {
  (void)options;
  (void)n_options;
  infos[0] = describe("acme:0", 1);
  infos[1] = describe("acme:1", 0);
  infos[2] = describe("acme:2", 1);
  infos[2].is_available = 0;
  infos[2].reason = "its firmware is too old";
  infos[2].remedy = "run acme-update";
  live_objects++;
  *out = &device_list;
  return NULL;
}

static void release_devices(const dg_device_list *list) {
  (void)list;
  live_objects--;
}

static dg_error *open_device(const char *id, const dg_option *const *options, size_t n_options, dg_device **out) {
  dg_device *device;
  acme_faults faults = read_faults(options, n_options);
  if (misbehave(&faults, "open")) return fail(DG_DEVICE_LOST, "the cable is out");
  if (strcmp(id, "acme:0") != 0 && strcmp(id, "acme:1") != 0) return fail(DG_INVALID, "no such device");
  device = make(sizeof *device);
  if (device == NULL) return &out_of_memory;
  device->faults = faults;
  *out = is_fault(&faults, "lie", "open") ? NULL : device;
  if (*out == NULL) release(device);
  return NULL;
}

static void release_device(dg_device *device) { release(device); }

/* ---- What is supported ---- */

static int64_t int_option(const dg_node *node, const char *name) {
  const dg_option *option = find_option(node->options, node->n_options, name);
  return option == NULL ? 0 : option->int_value;
}

static size_t count(const dg_tensor *tensor) {
  size_t n = 1, i;
  for (i = 0; i < tensor->rank; i++) n *= (size_t)tensor->shape[i];
  return n;
}

static int same_shape(const dg_tensor *a, const dg_tensor *b) {
  return a->rank == b->rank && memcmp(a->shape, b->shape, a->rank * sizeof *a->shape) == 0;
}

static const dg_support supported = {sizeof(dg_support), DG_YES, NULL, NULL, NULL, NULL, NULL};
static const dg_support wrong_op = {
    sizeof(dg_support), DG_NO, "acme.op", "this device has ADD and FULLY_CONNECTED only", NULL, NULL, NULL};
static const dg_support wrong_dtype = {
    sizeof(dg_support), DG_NO, "acme.dtype", "operands must be float32", "keep the model in float32", NULL, "float32"};
static const dg_support wrong_shapes = {
    sizeof(dg_support), DG_NO, "acme.broadcast", "the operands of ADD must have one shape", NULL, NULL, NULL};
static const dg_support wrong_weights = {
    sizeof(dg_support), DG_NO, "acme.weights", "weights and bias must be dense constants", NULL, NULL, NULL};
static const dg_support wrong_activation = {
    sizeof(dg_support), DG_NO, "acme.activation", "the activation must be none, RELU or RELU6", NULL, NULL, NULL};

static int is_plain_constant(const dg_tensor *tensor) { return tensor->constant != NULL && !tensor->is_sparse; }

static const dg_support *judge(const dg_graph *graph, const dg_node *node) {
  const dg_tensor *const *tensors = graph->tensors;
  int64_t activation = int_option(node, "fused_activation_function");
  size_t i;
  if (node->op != OP_ADD && node->op != OP_FULLY_CONNECTED) return &wrong_op;
  for (i = 0; i < node->n_inputs; i++) {
    if (node->inputs[i] >= 0 && tensors[node->inputs[i]]->dtype != FLOAT32) return &wrong_dtype;
  }
  if (activation != NONE && activation != RELU && activation != RELU6) return &wrong_activation;
  if (node->op == OP_ADD) {
    return same_shape(tensors[node->inputs[0]], tensors[node->inputs[1]]) ? &supported : &wrong_shapes;
  }
  if (int_option(node, "weights_format") != 0) return &wrong_weights;
  for (i = 1; i < node->n_inputs; i++) {
    if (node->inputs[i] >= 0 && !is_plain_constant(tensors[node->inputs[i]])) return &wrong_weights;
  }
  return &supported;
}

typedef struct {
  dg_answers answers;
  const dg_support *items[1]; /* as many as there are nodes */
} answers_object;

static dg_error *supports(dg_device *device, const dg_graph *graph, const dg_answers **out) {
  answers_object *made;
  size_t i;
  if (misbehave(&device->faults, "supports")) return fail(DG_INTERNAL, "no answer");
  made = make(sizeof *made + graph->n_nodes * sizeof *made->items);
  if (made == NULL) return &out_of_memory;
  for (i = 0; i < graph->n_nodes; i++) made->items[i] = judge(graph, graph->nodes[i]);
  made->answers.struct_size = sizeof made->answers;
  made->answers.items = made->items;
  made->answers.n_items = graph->n_nodes + (size_t)is_fault(&device->faults, "lie", "supports");
  *out = &made->answers;
  return NULL;
}

static void release_answers(const dg_answers *answers) { release((void *)answers); }

/* ---- Weights in our layout: packs ---- */

enum { PACK_NAME_SIZE = 16 + 64 + 1 };

/* "acme/transposed/" and the digest of the weights: equal names mean equal bytes. */
static void name_pack(const dg_constant *weights, char *name) {
  size_t i, length = (size_t)sprintf(name, "acme/transposed/");
  for (i = 0; i < 32; i++) sprintf(name + length + 2 * i, "%02x", weights->digest[i]);
}

/* ---- Compiling: a segment as numbers that another process can load ----
 *
 * artifact = artifact_head, place[n_tensors], step[n_steps], all of int64_t. */

enum { IN_INPUT = 1, IN_OUTPUT = 2, IN_CONSTANT = 3, IN_SCRATCH = 4 };

typedef struct { int64_t magic, checksum, n_tensors, n_steps, scratch_bytes; } artifact_head;
typedef struct { int64_t where, index, n; } place; /* index: number of the input or output, or offset in scratch */
typedef struct { int64_t op, activation, a, b, c, out, rows, columns; } step; /* a, b, c, out: tensors; c may be -1 */

#define MAGIC 0x31656d6361 /* "acme1" */
#define MAX_SCRATCH ((int64_t)1 << 40)
static const char FORMAT[] = "acme-1";

/* FNV-1a over all that follows the checksum: it tells an artifact that was damaged, not one that was forged. */
static int64_t checksum(const artifact_head *head, size_t size) {
  const unsigned char *byte = (const unsigned char *)&head->n_tensors, *end = (const unsigned char *)head + size;
  uint64_t sum = 0xcbf29ce484222325;
  for (; byte < end; byte++) sum = (sum ^ *byte) * 0x100000001b3;
  return (int64_t)sum;
}

typedef struct {
  dg_artifact artifact;
  const char **packs; /* behind the payload, and behind them the names */
  int64_t payload[1];
} artifact_object;

/* The names of the packs that load will ask for, each once. */
static size_t name_packs(const dg_graph *graph, const char **packs) {
  char *name = (char *)(packs + graph->n_nodes);
  size_t n = 0, i, k;
  for (i = 0; i < graph->n_nodes; i++) {
    if (graph->nodes[i]->op != OP_FULLY_CONNECTED) continue;
    name_pack(graph->tensors[graph->nodes[i]->inputs[1]]->constant, name);
    for (k = 0; k < n && strcmp(packs[k], name) != 0; k++) continue;
    if (k < n) continue;
    packs[n++] = name;
    name += PACK_NAME_SIZE;
  }
  return n;
}

static dg_error *compile(dg_device *device, const dg_segment *segment, const dg_packs *packs,
                         const dg_option *const *options, size_t n_options, int64_t deadline_ns,
                         const dg_artifact **out) {
  const dg_graph *graph = segment->graph;
  size_t size = sizeof(artifact_head) + graph->n_tensors * sizeof(place) + graph->n_nodes * sizeof(step), i;
  artifact_object *made;
  artifact_head *head;
  place *places;
  step *steps;
  (void)packs;
  (void)options;
  (void)n_options;
  if (misbehave(&device->faults, "compile")) return fail(DG_OUT_OF_MEMORY, "the segment does not fit");
  if (host->now_ns() > deadline_ns) return fail(DG_TIMEOUT, "no time to compile");
  made = make(sizeof *made + size + graph->n_nodes * (sizeof *made->packs + PACK_NAME_SIZE));
  if (made == NULL) return &out_of_memory;
  head = (artifact_head *)made->payload;
  places = (place *)(head + 1);
  steps = (step *)(places + graph->n_tensors);
  head->magic = MAGIC;
  head->n_tensors = (int64_t)graph->n_tensors;
  head->n_steps = (int64_t)graph->n_nodes;
  for (i = 0; i < segment->n_inputs; i++) {
    places[segment->inputs[i]].where = IN_INPUT;
    places[segment->inputs[i]].index = (int64_t)i;
  }
  for (i = 0; i < segment->n_outputs; i++) {
    places[segment->outputs[i]].where = IN_OUTPUT;
    places[segment->outputs[i]].index = (int64_t)i;
  }
  for (i = 0; i < graph->n_tensors; i++) {
    places[i].n = (int64_t)count(graph->tensors[i]);
    if (graph->tensors[i]->constant != NULL) {
      places[i].where = IN_CONSTANT;
    } else if (places[i].where == 0) {
      places[i].where = IN_SCRATCH;
      places[i].index = head->scratch_bytes;
      head->scratch_bytes += places[i].n * (int64_t)sizeof(float);
    }
  }
  for (i = 0; i < graph->n_nodes; i++) {
    const dg_node *node = graph->nodes[i];
    steps[i].op = node->op;
    steps[i].activation = int_option(node, "fused_activation_function");
    steps[i].a = node->inputs[0];
    steps[i].b = node->inputs[1];
    steps[i].c = node->n_inputs > 2 ? node->inputs[2] : -1;
    steps[i].out = node->outputs[0];
    if (node->op == OP_FULLY_CONNECTED) {
      steps[i].rows = graph->tensors[node->inputs[1]]->shape[0];
      steps[i].columns = graph->tensors[node->inputs[1]]->shape[1];
    }
  }
  head->checksum = checksum(head, size);
  made->packs = (const char **)(steps + graph->n_nodes);
  made->artifact.struct_size = sizeof made->artifact;
  made->artifact.format = FORMAT;
  made->artifact.packs = made->packs;
  made->artifact.n_packs = name_packs(graph, made->packs);
  made->artifact.payload = is_fault(&device->faults, "lie", "compile") ? NULL : made->payload;
  made->artifact.size_bytes = size;
  *out = &made->artifact;
  return NULL;
}

static void release_artifact(const dg_artifact *artifact) { release((void *)artifact); }

/* ---- Loading ---- */

struct dg_program {
  acme_faults faults;
  artifact_head head;
  const place *places;     /* behind the struct */
  const step *steps;       /* behind the places */
  const float **constants; /* of each tensor, in the host's memory */
  const float **packed;    /* of each step, its weights in our layout */
};

/* The weights column by column, so that the inner loop runs over rows. */
typedef struct { const float *weights; int64_t rows, columns; } transposing;

static int32_t transpose(void *user, void *memory, uint64_t size_bytes) {
  const transposing *job = user;
  float *to = memory;
  int64_t r, c;
  if (size_bytes != (uint64_t)(job->rows * job->columns) * sizeof(float)) return DG_INTERNAL;
  for (r = 0; r < job->rows; r++) {
    for (c = 0; c < job->columns; c++) to[c * job->rows + r] = job->weights[r * job->columns + c];
  }
  return 0;
}

static int32_t transposed(const dg_packs *packs, const dg_constant *weights, const step *s, const float **out) {
  char name[PACK_NAME_SIZE];
  uint64_t size = 0;
  const void *found = NULL;
  transposing job;
  int32_t code;
  name_pack(weights, name);
  job.weights = weights->data;
  job.rows = s->rows;
  job.columns = s->columns;
  code = packs->get(packs->self, name, transpose, &job, weights->size_bytes, &found, &size);
  if (code == 0 && size != weights->size_bytes) return DG_ARTIFACT_REFUSED;
  *out = found;
  return code;
}

/* Whether an artifact is whole and fits the segment; nothing of it may lead out of memory. */
static int fits(const artifact_head *head, const place *places, const step *steps, const dg_segment *segment) {
  int64_t i, n = head->n_tensors;
  if (head->scratch_bytes < 0 || head->scratch_bytes > MAX_SCRATCH) return 0;
  for (i = 0; i < n; i++) {
    int64_t limit = places[i].where == IN_INPUT    ? (int64_t)segment->n_inputs
                    : places[i].where == IN_OUTPUT ? (int64_t)segment->n_outputs
                                                   : head->scratch_bytes + 1;
    if (places[i].n != (int64_t)count(segment->graph->tensors[i]) || places[i].index < 0 || places[i].index >= limit)
      return 0;
    if (places[i].where == IN_CONSTANT && segment->graph->tensors[i]->constant == NULL) return 0;
    if (places[i].where == IN_SCRATCH &&
        (places[i].index % 4 != 0 || places[i].index + places[i].n * 4 > head->scratch_bytes))
      return 0;
  }
  for (i = 0; i < head->n_steps; i++) {
    const step *s = &steps[i];
    if (s->a < 0 || s->b < 0 || s->out < 0 || s->c < -1 || s->a >= n || s->b >= n || s->c >= n || s->out >= n) return 0;
    if (places[s->out].where != IN_OUTPUT && places[s->out].where != IN_SCRATCH) return 0;
    if (s->op != OP_ADD && s->op != OP_FULLY_CONNECTED) return 0;
    if (s->op == OP_ADD && (places[s->a].n != places[s->out].n || places[s->b].n != places[s->out].n)) return 0;
    if (s->op == OP_FULLY_CONNECTED &&
        (places[s->b].where != IN_CONSTANT || s->rows <= 0 || s->columns <= 0 ||
         places[s->b].n / s->columns != s->rows || places[s->a].n / s->columns != places[s->out].n / s->rows ||
         (s->c >= 0 && places[s->c].n != s->rows)))
      return 0;
  }
  return 1;
}

static dg_error *load(dg_device *device, const dg_artifact *artifact, const dg_segment *segment, const dg_packs *packs,
                      dg_program **out) {
  const artifact_head *head = artifact->payload;
  dg_program *program;
  size_t n_tensors = segment->graph->n_tensors, n_steps = segment->graph->n_nodes, i;
  size_t size = sizeof *head + n_tensors * sizeof(place) + n_steps * sizeof(step);
  if (misbehave(&device->faults, "load")) return fail(DG_ARTIFACT_REFUSED, "made for another firmware");
  if (strcmp(artifact->format, FORMAT) != 0 || artifact->size_bytes != size || head->magic != MAGIC ||
      head->checksum != checksum(head, size) ||
      head->n_tensors != (int64_t)n_tensors || head->n_steps != (int64_t)n_steps ||
      !fits(head, (const place *)(head + 1), (const step *)((const place *)(head + 1) + n_tensors), segment))
    return fail(DG_ARTIFACT_REFUSED, "damaged, or of another segment");
  program = make(sizeof *program + size + (n_tensors + n_steps) * sizeof *program->constants);
  if (program == NULL) return &out_of_memory;
  program->faults = device->faults;
  program->head = *head;
  memcpy(program + 1, head + 1, size - sizeof *head);
  program->places = (const place *)(program + 1);
  program->steps = (const step *)(program->places + n_tensors);
  program->constants = (const float **)(program->steps + n_steps);
  program->packed = program->constants + n_tensors;
  for (i = 0; i < n_tensors; i++) {
    const dg_constant *constant = segment->graph->tensors[i]->constant;
    program->constants[i] = constant == NULL ? NULL : constant->data;
  }
  for (i = 0; i < n_steps; i++) {
    const step *s = &program->steps[i];
    int32_t code = 0;
    if (s->op == OP_FULLY_CONNECTED) {
      code = transposed(packs, segment->graph->tensors[s->b]->constant, s, &program->packed[i]);
    }
    if (code != 0) {
      release(program);
      return fail(code, "the weights could not be packed");
    }
  }
  *out = program;
  return NULL;
}

static void release_program(dg_program *program) { release(program); }

static uint64_t scratch_bytes(const dg_program *program) { return (uint64_t)program->head.scratch_bytes; }

static uint32_t alignment(const dg_program *program) { return is_fault(&program->faults, "lie", "load") ? 3 : 64; }

/* ---- Running ---- */

struct dg_context {
  const dg_program *program;
  char *scratch;
  float **memory; /* of each tensor; behind the struct */
};

static dg_error *new_context(dg_program *program, const dg_buffer *scratch, dg_context **out) {
  dg_context *context = make(sizeof *context + (size_t)program->head.n_tensors * sizeof(float *));
  if (context == NULL) return &out_of_memory;
  context->program = program;
  context->scratch = scratch->data;
  context->memory = (float **)(context + 1);
  *out = context;
  return NULL;
}

static void release_context(dg_context *context) { release(context); }

static dg_error *bind_buffers(dg_context *context, const dg_buffer *const *inputs, size_t n_inputs,
                              const dg_buffer *const *outputs, size_t n_outputs) {
  int64_t i;
  (void)n_inputs; /* as many as the segment has: load checked the numbers against those */
  (void)n_outputs;
  for (i = 0; i < context->program->head.n_tensors; i++) {
    const place *p = &context->program->places[i];
    switch (p->where) {
      case IN_INPUT: context->memory[i] = inputs[p->index]->data; break;
      case IN_OUTPUT: context->memory[i] = outputs[p->index]->data; break;
      case IN_CONSTANT: context->memory[i] = (float *)context->program->constants[i]; break;
      default: context->memory[i] = (float *)(context->scratch + p->index);
    }
  }
  return NULL;
}

/* From here on the host may free what was bound. */
static void unbind_buffers(dg_context *context) {
  memset(context->memory, 0, (size_t)context->program->head.n_tensors * sizeof *context->memory);
}

static float activate(float x, int64_t activation) {
  if (activation != NONE && x < 0) return 0;
  return activation == RELU6 && x > 6 ? 6 : x;
}

static void run_step(const dg_context *context, const step *s, const float *weights) {
  const float *a = context->memory[s->a], *b = context->memory[s->b];
  const float *c = s->c < 0 ? NULL : context->memory[s->c];
  float *out = context->memory[s->out];
  int64_t n = context->program->places[s->out].n, i, row, k;
  if (s->op == OP_ADD) {
    for (i = 0; i < n; i++) out[i] = activate(a[i] + b[i], s->activation);
    return;
  }
  for (i = 0; i < n / s->rows; i++, a += s->columns, out += s->rows) {
    for (row = 0; row < s->rows; row++) out[row] = c == NULL ? 0 : c[row];
    for (k = 0; k < s->columns; k++) {
      for (row = 0; row < s->rows; row++) out[row] += a[k] * weights[k * s->rows + row];
    }
    for (row = 0; row < s->rows; row++) out[row] = activate(out[row], s->activation);
  }
}

static dg_error *run(dg_context *context, int64_t deadline_ns) {
  const dg_program *program = context->program;
  int64_t i;
  if (misbehave(&program->faults, "run")) return fail(DG_DEVICE_LOST, "the device fell off the bus");
  for (i = 0; i < program->head.n_steps; i++) {
    if (host->now_ns() > deadline_ns) return fail(DG_TIMEOUT, "too slow");
    run_step(context, &program->steps[i], program->packed[i]);
  }
  if (is_fault(&program->faults, "lie", "run")) { /* writes one element too many */
    const step *last = &program->steps[program->head.n_steps - 1];
    context->memory[last->out][program->places[last->out].n] = 1;
  }
  return NULL;
}

/* ---- The table, and the one symbol ---- */

#ifndef ACME_MAJOR /* the tests build old and broken versions with these */
#define ACME_MAJOR DG_ABI_MAJOR
#endif
#ifndef ACME_MINOR
#define ACME_MINOR DG_ABI_MINOR
#endif
#ifndef ACME_SIZE
#define ACME_SIZE sizeof(dg_delegate_api)
#endif
#ifndef ACME_RUN
#define ACME_RUN run
#endif

static dg_delegate_api api;

int32_t delegraph_delegate_entry(uint32_t host_major, uint32_t host_minor, const dg_host_api *host_api,
                                 const dg_delegate_api **out) {
  if (host_major != DG_ABI_MAJOR || host_minor < DG_ABI_MINOR) return DG_INVALID;
  host = host_api;
  api.struct_size = ACME_SIZE;
  api.abi_major = ACME_MAJOR;
  api.abi_minor = ACME_MINOR;
  api.name = "acme";
  api.version = "1.0";
  api.release_error = release_error;
  api.devices = devices;
  api.release_devices = release_devices;
  api.open = open_device;
  api.release_device = release_device;
  api.supports = supports;
  api.release_answers = release_answers;
  api.compile = compile;
  api.release_artifact = release_artifact;
  api.load = load;
  api.release_program = release_program;
  api.scratch_bytes = scratch_bytes;
  api.alignment = alignment;
  api.context = new_context;
  api.release_context = release_context;
  api.bind = bind_buffers;
  api.run = ACME_RUN;
  api.unbind = unbind_buffers;
  *out = &api;
  return 0;
}
