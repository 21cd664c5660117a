/* What has been met, how references are written, and the emission of containers and ordinary objects. */

#include "walk.h"

size_t spread(void *pointer) {
    uint64_t x = (uint64_t)(uintptr_t)pointer >> 4;
    return (size_t)((x * 0x9E3779B97F4A7C15ull) >> 20);
}

/* -- what has been met ------------------------------------------------------------------------------------------------ */

Met *met(Cells *self, void *object) {
    size_t mask = self->memo_size - 1, at = spread(object) & mask;
    while (self->memo[at].object != NULL && self->memo[at].object != object)
        at = (at + 1) & mask;
    return &self->memo[at];
}

static int remember(Cells *self, void *object, PyObject *cell) {
    if (3 * (self->memo_used + 1) > 2 * self->memo_size) {
        size_t old_size = self->memo_size;
        Met *old = self->memo, *grown = PyMem_Calloc(4 * old_size, sizeof(Met));
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->memo = grown;
        self->memo_size = 4 * old_size;
        for (size_t i = 0; i < old_size; i++)
            if (old[i].object != NULL)
                *met(self, old[i].object) = old[i];
        PyMem_Free(old);
    }
    Met *place = met(self, object);
    place->object = object;
    place->cell = Py_NewRef(cell);
    self->memo_used++;
    return 0;
}

static int queue(Cells *self, PyObject *token, PyObject *object, Known *known) {
    if (self->todo_used == self->todo_size) {
        size_t size = 2 * self->todo_size;
        Todo *grown = PyMem_Realloc(self->todo, size * sizeof(Todo));
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->todo = grown;
        self->todo_size = size;
    }
    self->todo[self->todo_used++] = (Todo){Py_NewRef(token), object, known};
    return 0;
}

/* -- types ------------------------------------------------------------------------------------------------------------ */

static Known *new_known(Cells *self, PyTypeObject *type) {
    PyObject *handler = PyObject_CallMethodOneArg(self->walker, constants.resolved, (PyObject *)type); /* (emit, atom, serial) */
    if (handler == NULL)
        return NULL;
    Known *known = PyMem_Calloc(1, sizeof(Known));
    if (known == NULL) {
        Py_DECREF(handler);
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *emit = PyTuple_GET_ITEM(handler, 0), *atom = PyTuple_GET_ITEM(handler, 1);
    known->type = (PyTypeObject *)Py_NewRef(type);
    known->emit = Py_NewRef(emit);
    known->atom = atom == Py_None ? NULL : Py_NewRef(atom);
    known->serial = PyTuple_GET_ITEM(handler, 2) == Py_True;
    PyObject *kind = PyDict_GetItemWithError(self->kinds, emit);
    known->kind = kind == NULL ? BY_FUNCTION : (int)PyLong_AsLong(kind);
    Py_DECREF(handler);
    /* Instances of subclasses of containers have attributes, too. */
    if (known->kind == A_DICT && type == &PyODict_Type)
        known->kind = AN_ORDERED;
    if ((known->kind == A_LIST && type != &PyList_Type) || (known->kind == A_TUPLE && type != &PyTuple_Type) ||
        (known->kind == A_DICT && type != &PyDict_Type))
        known->kind = BY_FUNCTION;
    if (known->kind == A_TENSOR) {
        PyObject *classes = PyTuple_GET_ITEM(self->parts, TENSOR); /* torch.Tensor, then others that add nothing of their own */
        known->is_plain_tensor = (PyObject *)type == PyTuple_GET_ITEM(classes, 0);
        known->kind = BY_FUNCTION;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(classes); i++)
            if ((PyObject *)type == PyTuple_GET_ITEM(classes, i)) /* not compared: metaclasses may have their own way of it */
                known->kind = A_TENSOR;
    }
    return known;
}

/* Where a type is in the table, or would be. */
static Known **place_of(Cells *self, PyTypeObject *type) {
    size_t mask = self->types_size - 1, at = spread(type) & mask;
    while (self->types[at] != NULL && self->types[at]->type != type)
        at = (at + 1) & mask;
    return &self->types[at];
}

static int grow_types(Cells *self) {
    size_t old_size = self->types_size;
    Known **old = self->types, **grown = PyMem_Calloc(4 * old_size, sizeof(Known *));
    if (grown == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->types = grown;
    self->types_size = 4 * old_size;
    for (size_t i = 0; i < old_size; i++)
        if (old[i] != NULL)
            *place_of(self, old[i]->type) = old[i];
    PyMem_Free(old);
    return 0;
}

static Known *known_type(Cells *self, PyTypeObject *type) {
    Known *known = *place_of(self, type);
    if (known != NULL)
        return known;
    if (2 * (self->types_used + 1) > self->types_size && grow_types(self) < 0)
        return NULL;
    known = new_known(self, type); /* which meets no other type: it only asks how this one is handled */
    if (known != NULL) {
        *place_of(self, type) = known;
        self->types_used++;
    }
    return known;
}

/* -- cells ------------------------------------------------------------------------------------------------------------ */

static PyObject *node_cell(Cells *self, PyObject *object, Known *known) {
    PyObject *address = PyLong_FromVoidPtr(object);
    if (address == NULL)
        return NULL;
    PyObject *found = PyDict_GetItemWithError(self->singletons, address);
    if (found != NULL || PyErr_Occurred()) {
        Py_DECREF(address);
        return Py_XNewRef(found);
    }
    PyObject *token = address;
    if (known->serial) {
        token = PyObject_CallMethodOneArg(self->walker, constants.serial, object);
        Py_DECREF(address);
        if (token == NULL)
            return NULL;
    }
    PyObject *cell = PyTuple_Pack(1, token);
    if (cell == NULL || PyDict_SetItem(self->objects, token, object) < 0 || remember(self, object, cell) < 0 ||
        queue(self, token, object, known) < 0)
        Py_CLEAR(cell);
    Py_DECREF(token);
    return cell;
}

/* walk.py `Walker._cell`. */
PyObject *cell_of(Cells *self, PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    if (type == &PyLong_Type) {
        int over;
        long long value = PyLong_AsLongLongAndOverflow(object, &over);
        if ((over > 0 || (over == 0 && value > self->big)) && PySet_Add(self->big_ints, object) < 0)
            return NULL;
        return Py_NewRef(object);
    }
    if (type == &PyFloat_Type || type == &PyBool_Type || object == Py_None || type == &PyComplex_Type)
        return Py_NewRef(object);
    if ((type == &PyUnicode_Type && PyUnicode_GET_LENGTH(object) <= self->large) ||
        (type == &PyBytes_Type && PyBytes_GET_SIZE(object) <= self->large))
        return Py_NewRef(object);
    Met *place = met(self, object);
    if (place->object != NULL)
        return Py_NewRef(place->cell);
    Known *known = known_type(self, type);
    if (known == NULL)
        return NULL;
    if (known->atom != NULL) {
        PyObject *found = PyObject_CallFunctionObjArgs(known->atom, self->walker, object, NULL);
        if (found == NULL || found != Py_None)
            return found;
        Py_DECREF(found);
    }
    return node_cell(self, object, known);
}

PyObject *type_cell(Cells *self, Known *known) {
    if (known->cell == NULL) {
        PyObject *cell = cell_of(self, (PyObject *)known->type);
        if (cell == NULL)
            return NULL;
        Py_XSETREF(known->cell, cell);
    }
    return Py_NewRef(known->cell);
}

/* The cells of all items of a tuple, which nobody else changes. */
static PyObject *cells_of(Cells *self, PyObject *items) {
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    PyObject *cells = PyTuple_New(n);
    for (Py_ssize_t i = 0; cells != NULL && i < n; i++) {
        PyObject *cell = cell_of(self, PyTuple_GET_ITEM(items, i));
        if (cell == NULL)
            Py_CLEAR(cells);
        else
            PyTuple_SET_ITEM(cells, i, cell);
    }
    return cells;
}

/* A node; takes over the references to its parts, of which NULL is a failure. */
PyObject *node(PyObject *kind, PyObject *cls, PyObject *payload, PyObject *cells, PyObject *attrs) {
    PyObject *made = NULL;
    if (cls != NULL && payload != NULL && cells != NULL && attrs != NULL)
        made = PyTuple_Pack(5, kind, cls, payload, cells, attrs);
    Py_XDECREF(cls);
    Py_XDECREF(payload);
    Py_XDECREF(cells);
    Py_XDECREF(attrs);
    return made;
}

/* -- containers and objects --------------------------------------------------------------------------------------------- */

PyObject *by_function(Cells *self, PyObject *object, PyObject *token, Known *known) {
    PyObject *words[] = {self->walker, object, token};
    return PyObject_Vectorcall(known->emit, words, 3, NULL);
}

static PyObject *emit_sequence(Cells *self, PyObject *object, PyObject *token, Known *known) {
    if (Py_SIZE(object) > self->bulk)
        return by_function(self, object, token, known);
    int is_list = known->kind == A_LIST;
    PyObject *items = is_list ? PyList_AsTuple(object) : Py_NewRef(object);
    if (items == NULL)
        return NULL;
    PyObject *cells = cells_of(self, items);
    Py_DECREF(items);
    return node(is_list ? constants.list : constants.tuple, Py_NewRef(Py_None), Py_NewRef(Py_None), cells, Py_NewRef(Py_None));
}

static PyObject *emit_dict(Cells *self, PyObject *object, PyObject *token, Known *known) {
    Py_ssize_t n = PyDict_GET_SIZE(object);
    if (n > self->bulk)
        return by_function(self, object, token, known);
    if (PyDict_GET_SIZE(self->volatile_)) {
        int some = PyDict_Contains(self->volatile_, token);
        if (some)
            return some < 0 ? NULL : by_function(self, object, token, known);
    }
    /* First all items, then their cells, which may run functions of kinds/. */
    PyObject *items = PyTuple_New(2 * n), *key, *value, *cells;
    if (items == NULL)
        return NULL;
    Py_ssize_t at = 0, i = 0;
    while (i < 2 * n && PyDict_Next(object, &at, &key, &value)) {
        PyTuple_SET_ITEM(items, i++, Py_NewRef(key));
        PyTuple_SET_ITEM(items, i++, Py_NewRef(value));
    }
    cells = cells_of(self, items);
    Py_DECREF(items);
    return node(constants.dict, Py_NewRef(Py_None), Py_NewRef(Py_None), cells, Py_NewRef(Py_None));
}

/* Most ordered dicts are the empty tables of hooks that modules have. */
static PyObject *emit_ordered(Cells *self, PyObject *object, PyObject *token, Known *known) {
    if (PyDict_GET_SIZE(object))
        return by_function(self, object, token, known);
    PyObject *cls = type_cell(self, known), *attrs = cls == NULL ? NULL : attrs_of(self, object, known, 0);
    return node(constants.dict, cls, Py_NewRef(Py_None), Py_NewRef(constants.empty), attrs);
}

/* Where a type's instances keep attributes (layout.py). */
static int know_layout(Cells *self, Known *known) {
    if (known->slots != NULL)
        return 0;
    PyObject *layout = PyObject_CallMethodOneArg(self->walker, constants.layout, (PyObject *)known->type); /* (place, slots, names) */
    if (layout == NULL)
        return -1;
    PyObject *place = PyTuple_GET_ITEM(layout, 0);
    known->place = place == Py_None ? NULL : Py_NewRef(place);
    known->slots = Py_NewRef(PyTuple_GET_ITEM(layout, 1));
    known->names = Py_NewRef(PyTuple_GET_ITEM(layout, 2));
    Py_DECREF(layout);
    return 0;
}

PyObject *value_of(PyObject *descriptor, PyObject *object) {
    return Py_TYPE(descriptor)->tp_descr_get(descriptor, object, (PyObject *)Py_TYPE(object));
}

static PyObject *slot_cells(Cells *self, PyObject *object, Known *known) {
    Py_ssize_t n = PyTuple_GET_SIZE(known->slots);
    PyObject *cells = PyTuple_New(n);
    for (Py_ssize_t i = 0; cells != NULL && i < n; i++) {
        PyObject *value = value_of(PyTuple_GET_ITEM(PyTuple_GET_ITEM(known->slots, i), 1), object), *cell;
        if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();
            cell = Py_NewRef(self->unset);
        } else {
            cell = value == NULL ? NULL : cell_of(self, value);
            Py_XDECREF(value);
        }
        if (cell == NULL)
            Py_CLEAR(cells);
        else
            PyTuple_SET_ITEM(cells, i, cell);
    }
    return cells;
}

/* walk.py `Walker.attrs`. */
PyObject *attrs_of(Cells *self, PyObject *object, Known *known, int keep_empty) {
    if (know_layout(self, known) < 0)
        return NULL;
    PyObject *cell = NULL;
    if (known->place != NULL) {
        PyObject *space = value_of(known->place, object);
        if (space == NULL)
            return NULL;
        if (PyDict_Check(space) && (keep_empty || PyDict_GET_SIZE(space))) {
            cell = cell_of(self, space);
            if (cell == NULL) {
                Py_DECREF(space);
                return NULL;
            }
        }
        Py_DECREF(space);
    }
    if (cell == NULL && !PyTuple_GET_SIZE(known->slots))
        return Py_NewRef(Py_None);
    PyObject *values = slot_cells(self, object, known), *made = NULL;
    if (values != NULL)
        made = PyTuple_Pack(3, cell == NULL ? Py_None : cell, known->names, values);
    Py_XDECREF(values);
    Py_XDECREF(cell);
    return made;
}

static PyObject *emit_object(Cells *self, PyObject *object, Known *known) {
    PyObject *cls = type_cell(self, known);
    PyObject *attrs = cls == NULL ? NULL : attrs_of(self, object, known, 1);
    return node(constants.object, cls, Py_NewRef(Py_None), Py_NewRef(constants.empty), attrs);
}

/* -- all kinds ---------------------------------------------------------------------------------------------------------- */

PyObject *emit(Cells *self, PyObject *object, PyObject *token, Known *known) {
    switch (known->kind) {
    case A_LIST:
    case A_TUPLE:
        return emit_sequence(self, object, token, known);
    case A_DICT:
        return emit_dict(self, object, token, known);
    case AN_ORDERED:
        return emit_ordered(self, object, token, known);
    case AN_OBJECT:
        return emit_object(self, object, known);
    case A_TENSOR:
        return emit_tensor(self, object, token, known);
    default:
        return by_function(self, object, token, known);
    }
}
