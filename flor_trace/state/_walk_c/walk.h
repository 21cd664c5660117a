/* What the files of the compiled loop share; module.c says what it is. */

#ifndef FLOR_TRACE_WALK_H
#define FLOR_TRACE_WALK_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

/* How instances of a type are emitted: by a function of kinds/, or here. */
enum { BY_FUNCTION, A_LIST, A_TUPLE, A_DICT, AN_OBJECT, A_TENSOR, AN_ORDERED };

/* What is known of a type within one walk. */
typedef struct {
    PyTypeObject *type;
    PyObject *emit, *atom; /* atom: NULL where there is none */
    PyObject *cell;        /* the cell of the type itself, once it has been asked for */
    PyObject *place;       /* the descriptor of __dict__, or NULL; known with `slots` */
    PyObject *slots;       /* ((name, descriptor), ...) */
    PyObject *names;       /* their names */
    int serial, kind, is_plain_tensor;
} Known;

typedef struct {
    void *object;
    PyObject *cell; /* owned */
} Met;

typedef struct {
    PyObject *token;  /* owned */
    PyObject *object; /* kept alive by `objects` */
    Known *known;
} Todo;

/* Descriptors and functions of torch, in the order of kinds/torch.py `_parts`. */
enum {
    LAYOUT, IS_NESTED, IS_QUANTIZED, IS_CPU, GRAD_FN, DTYPE, NEEDS_GRAD, GRAD, SHAPE, HOOKS, LATE_HOOKS, IS_INFERENCE, IS_CONJ, IS_NEG,
    HAS_NAMES, STORAGE_OFFSET, ELEMENT_SIZE, STRIDE, STORAGE, ADDRESS, NBYTES, IS_SHARED, FILENAME, STRIDED, DTYPE_NAMES, TENSOR, REGION,
    PARTS
};

typedef struct {
    PyObject_HEAD
    PyObject *walker, *objects, *nodes, *big_ints, *singletons, *volatile_, *views, *regions, *kinds, *unset, *parts;
    Met *memo;
    size_t memo_size, memo_used;
    Todo *todo;
    size_t todo_size, todo_used;
    Known **types;
    size_t types_size, types_used;
    Py_ssize_t large, bulk;
    long long big;
} Cells;

/* Names that are interned, and values that never change; made by module.c. */
typedef struct {
    PyObject *list, *tuple, *dict, *object, *tensor, *cpu, *resolved, *layout, *serial, *low, *high, *flags, *nbytes, *device, *empty, *no_bits;
} Constants;

/* Other libraries in the process may export the same names. */
#pragma GCC visibility push(hidden)

extern Constants constants;

/* cells.c */
size_t spread(void *pointer);
Met *met(Cells *self, void *object);
PyObject *cell_of(Cells *self, PyObject *object);
PyObject *type_cell(Cells *self, Known *known);
PyObject *node(PyObject *kind, PyObject *cls, PyObject *payload, PyObject *cells, PyObject *attrs);
PyObject *value_of(PyObject *descriptor, PyObject *object);
PyObject *attrs_of(Cells *self, PyObject *object, Known *known, int keep_empty);
PyObject *by_function(Cells *self, PyObject *object, PyObject *token, Known *known);
PyObject *emit(Cells *self, PyObject *object, PyObject *token, Known *known);

/* tensors.c */
PyObject *emit_tensor(Cells *self, PyObject *object, PyObject *token, Known *known);

/* memory.c */
extern PyMethodDef memory_functions[];

#pragma GCC visibility pop

#endif
