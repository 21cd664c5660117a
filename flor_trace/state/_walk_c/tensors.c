/* The emission of tensors: dense ones on the CPU that are on no autograd graph. */

#include "walk.h"

static PyObject *part(Cells *self, int which) { return PyTuple_GET_ITEM(self->parts, which); }

/* What a getter or a method without arguments says; NULL is a failure. */
static PyObject *ask(Cells *self, int which, PyObject *object) {
    PyObject *how = part(self, which);
    return which < IS_INFERENCE ? value_of(how, object) : PyObject_Vectorcall(how, &object, 1, NULL);
}

/* Whether a getter or a method says `wanted`; -1 on failure. */
static int says(Cells *self, int which, PyObject *object, PyObject *wanted) {
    PyObject *found = ask(self, which, object);
    Py_XDECREF(found);
    return found == NULL ? -1 : found == wanted;
}

static int number(Cells *self, int which, PyObject *object, long long *into) {
    PyObject *found = ask(self, which, object);
    if (found == NULL)
        return -1;
    *into = (long long)PyLong_AsUnsignedLongLongMask(found);
    Py_DECREF(found);
    return PyErr_Occurred() ? -1 : 0;
}

/* Whether a tensor is one of those that are emitted here: dense, on the CPU, on no autograd graph, without hooks or names. -1: failure. */
static int is_common(Cells *self, PyObject *object) {
    static const int bare[] = {IS_NESTED, IS_QUANTIZED};
    int said = says(self, LAYOUT, object, part(self, STRIDED));
    if (said != 1)
        return said;
    for (int i = 0; i < 2; i++)
        if ((said = says(self, bare[i], object, Py_False)) != 1)
            return said;
    if ((said = says(self, IS_CPU, object, Py_True)) != 1 || (said = says(self, GRAD_FN, object, Py_None)) != 1)
        return said;
    for (int which = HOOKS; which <= LATE_HOOKS; which++) {
        if (part(self, which) == Py_None)
            continue;
        PyObject *hooks = ask(self, which, object);
        if (hooks == NULL)
            return -1;
        int some = PyObject_IsTrue(hooks);
        Py_DECREF(hooks);
        if (some)
            return some < 0 ? -1 : 0;
    }
    return part(self, HAS_NAMES) == Py_None ? 1 : says(self, HAS_NAMES, object, Py_False);
}

/* Note the memory that a tensor sees. 1: done; 0: it is another case; -1: failure. */
static int note_region(Cells *self, PyObject *storage, PyObject *home, long long nbytes, long long low, long long high) {
    PyObject *known = PyDict_GetItemWithError(self->regions, home);
    if (known != NULL || PyErr_Occurred())
        return known == NULL ? -1 : 0; /* shared by several tensors */
    int said = says(self, IS_SHARED, storage, Py_False);
    if (said == 1)
        said = says(self, FILENAME, storage, Py_None);
    if (said != 1)
        return said;
    PyObject *region = PyObject_CallFunction(part(self, REGION), "OLOiOLL", home, nbytes, storage, 0, constants.cpu, low, high);
    if (region == NULL)
        return -1;
    said = PyDict_SetItem(self->regions, home, region) < 0 ? -1 : 1;
    Py_DECREF(region);
    return said;
}

/* How many elements beyond its first one a view reaches; -1 where there is none, -2 on failure. */
static long long reach_of(PyObject *shape, PyObject *strides) {
    long long reach = 0;
    Py_ssize_t n = PyTuple_GET_SIZE(shape);
    for (Py_ssize_t i = 0; i < n; i++) {
        long long count = PyLong_AsLongLong(PyTuple_GET_ITEM(shape, i)), stride = PyLong_AsLongLong(PyTuple_GET_ITEM(strides, i));
        if (PyErr_Occurred())
            return -2;
        if (count == 0)
            return -1;
        reach += (count - 1) * stride;
    }
    return reach;
}

typedef struct {
    PyObject *shape, *strides, *storage, *home;
    long long offset;
} View;

/* Where a tensor looks. 1: it is noted; 0: it is another case; -1: failure. What has been found is the caller's to release. */
static int look(Cells *self, PyObject *object, View *view) {
    long long address, nbytes, first, size, reach;
    PyObject *shape = ask(self, SHAPE, object);
    if (shape == NULL)
        return -1;
    view->shape = PyTuple_GetSlice(shape, 0, PyTuple_GET_SIZE(shape)); /* a plain tuple */
    Py_DECREF(shape);
    view->strides = ask(self, STRIDE, object);
    view->storage = ask(self, STORAGE, object);
    if (view->shape == NULL || view->strides == NULL || view->storage == NULL)
        return -1;
    if (number(self, ADDRESS, view->storage, &address) < 0 || number(self, NBYTES, view->storage, &nbytes) < 0 ||
        number(self, STORAGE_OFFSET, object, &first) < 0 || number(self, ELEMENT_SIZE, object, &size) < 0)
        return -1;
    reach = reach_of(view->shape, view->strides);
    if (reach == -2)
        return -1;
    if (reach < 0 || address <= 0 || nbytes == 0)
        return 0;
    view->offset = first * size;
    view->home = PyLong_FromLongLong(address);
    if (view->home == NULL)
        return -1;
    long long low = address + view->offset, high = low + (reach + 1) * size, end = address + nbytes;
    return note_region(self, view->storage, view->home, nbytes, low, high < end ? high : end);
}

static PyObject *tensor_payload(Cells *self, PyObject *object, View *view, PyObject *dtype) {
    PyObject *needs = ask(self, NEEDS_GRAD, object), *inference = ask(self, IS_INFERENCE, object), *bits = NULL, *payload = NULL;
    int conj = says(self, IS_CONJ, object, Py_True), neg = says(self, IS_NEG, object, Py_True);
    if (conj >= 0 && neg >= 0)
        bits = conj || neg ? Py_BuildValue("(NN)", PyBool_FromLong(conj), PyBool_FromLong(neg)) : Py_NewRef(constants.no_bits);
    if (needs != NULL && inference != NULL && bits != NULL)
        payload = Py_BuildValue("(LOOOOOOOOOOO)", view->offset, dtype, view->shape, view->strides, needs, constants.cpu, Py_None, bits, inference,
                                Py_None, Py_False, Py_None);
    Py_XDECREF(needs);
    Py_XDECREF(inference);
    Py_XDECREF(bits);
    return payload;
}

/* The cells of a tensor: its memory, its gradient, and None for each sort of hooks. */
static PyObject *tensor_cells(Cells *self, PyObject *object, PyObject *home) {
    int n = part(self, LATE_HOOKS) == Py_None ? 3 : 4;
    PyObject *cells = PyTuple_New(n), *grad = ask(self, GRAD, object), *grad_cell = NULL, *home_cell = PyTuple_Pack(1, home);
    if (grad != NULL)
        grad_cell = grad == Py_None ? Py_NewRef(Py_None) : cell_of(self, grad);
    Py_XDECREF(grad);
    if (cells == NULL || grad_cell == NULL || home_cell == NULL) {
        Py_XDECREF(cells);
        Py_XDECREF(grad_cell);
        Py_XDECREF(home_cell);
        return NULL;
    }
    PyTuple_SET_ITEM(cells, 0, home_cell);
    PyTuple_SET_ITEM(cells, 1, grad_cell);
    for (int i = 2; i < n; i++)
        PyTuple_SET_ITEM(cells, i, Py_NewRef(Py_None));
    return cells;
}

/* kinds/torch.py `_emit`. */
PyObject *emit_tensor(Cells *self, PyObject *object, PyObject *token, Known *known) {
    int common = is_common(self, object);
    if (common != 1)
        return common < 0 ? NULL : by_function(self, object, token, known);
    PyObject *dtype = ask(self, DTYPE, object), *made = NULL;
    if (dtype == NULL)
        return NULL;
    PyObject *name = PyDict_GetItemWithError(part(self, DTYPE_NAMES), dtype);
    Py_DECREF(dtype);
    if (name == NULL)
        return PyErr_Occurred() ? NULL : by_function(self, object, token, known);
    View view = {NULL, NULL, NULL, NULL, 0};
    int seen = look(self, object, &view);
    if (seen == 0)
        made = by_function(self, object, token, known);
    else if (seen == 1 && PyList_Append(self->views, token) == 0) {
        PyObject *payload = tensor_payload(self, object, &view, name);
        PyObject *cells = payload == NULL ? NULL : tensor_cells(self, object, view.home);
        PyObject *cls = cells == NULL ? NULL : known->is_plain_tensor ? Py_NewRef(Py_None) : type_cell(self, known);
        PyObject *attrs = cls == NULL ? NULL : attrs_of(self, object, known, 0);
        made = node(constants.tensor, cls, payload, cells, attrs);
    }
    Py_XDECREF(view.shape);
    Py_XDECREF(view.strides);
    Py_XDECREF(view.storage);
    Py_XDECREF(view.home);
    return made;
}
