/* The inner loop of the walk (walk.py), for the kinds of objects that states mostly consist of.

   What it writes down is what walk.py and the emitting functions of kinds/ write down, which are the reference and are used where this
   has not been compiled; everything that is not among the commonest cases is handed to them, too. tests/state/test_compiled.py walks the
   same objects both ways. No code of the script's is called: attributes are read through the descriptors that are passed in. */

#include "walk.h"

Constants constants;

PyDoc_STRVAR(emit_all_doc, "Emit up to so many queued nodes; whether there are more.");

static PyObject *Cells_emit_all(Cells *self, PyObject *most) {
    long left = PyLong_AsLong(most);
    if (left == -1 && PyErr_Occurred())
        return NULL;
    while (self->todo_used && left-- > 0) {
        Todo next = self->todo[--self->todo_used];
        PyObject *made = emit(self, next.object, next.token, next.known);
        int failed = made == NULL || PyDict_SetItem(self->nodes, next.token, made) < 0;
        Py_XDECREF(made);
        Py_DECREF(next.token);
        if (failed)
            return NULL;
    }
    return PyBool_FromLong(self->todo_used != 0);
}

PyDoc_STRVAR(token_at_doc, "The token of the node that lives at an address; None where none has been met.");

static PyObject *Cells_token_at(Cells *self, PyObject *address) {
    void *object = PyLong_AsVoidPtr(address);
    if (object == NULL) {
        PyErr_Clear(); /* no address at all */
        Py_RETURN_NONE;
    }
    Met *place = met(self, object);
    return Py_NewRef(place->object == NULL ? Py_None : PyTuple_GET_ITEM(place->cell, 0));
}

PyDoc_STRVAR(cell_doc, "How a reference to an object is written; the object is queued if it is a node met for the first time.");

static PyObject *Cells_cell(Cells *self, PyObject *object) { return cell_of(self, object); }

static void clear_all(Cells *self) {
    for (size_t i = 0; i < self->memo_size && self->memo != NULL; i++)
        Py_XDECREF(self->memo[i].cell);
    for (size_t i = 0; i < self->todo_used; i++)
        Py_DECREF(self->todo[i].token);
    for (size_t i = 0; i < self->types_size && self->types != NULL; i++) {
        Known *known = self->types[i];
        if (known == NULL)
            continue;
        Py_XDECREF(known->type);
        Py_XDECREF(known->emit);
        Py_XDECREF(known->atom);
        Py_XDECREF(known->cell);
        Py_XDECREF(known->place);
        Py_XDECREF(known->slots);
        Py_XDECREF(known->names);
        PyMem_Free(known);
    }
    PyMem_Free(self->memo);
    PyMem_Free(self->todo);
    PyMem_Free(self->types);
    self->memo = NULL;
    self->todo = NULL;
    self->types = NULL;
    self->memo_size = self->todo_used = self->types_size = 0;
    PyObject **owned[] = {&self->walker, &self->objects, &self->nodes, &self->big_ints, &self->singletons, &self->volatile_, &self->views,
                          &self->regions, &self->kinds, &self->unset, &self->parts};
    for (size_t i = 0; i < sizeof(owned) / sizeof(owned[0]); i++)
        Py_CLEAR(*owned[i]);
}

static void Cells_dealloc(Cells *self) {
    clear_all(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int Cells_init(Cells *self, PyObject *words, PyObject *named) {
    static char *names[] = {"walker", "objects", "nodes", "big_ints", "singletons", "volatile", "views", "regions", "kinds", "unset",
                            "parts", "large", "bulk", "big", NULL};
    if (self->memo != NULL) {
        PyErr_SetString(PyExc_TypeError, "Cells cannot be initialised twice");
        return -1;
    }
    if (!PyArg_ParseTupleAndKeywords(words, named, "OO!O!O!O!O!O!O!O!OO!nnL", names, &self->walker, &PyDict_Type, &self->objects,
                                     &PyDict_Type, &self->nodes, &PySet_Type, &self->big_ints, &PyDict_Type, &self->singletons,
                                     &PyDict_Type, &self->volatile_, &PyList_Type, &self->views, &PyDict_Type, &self->regions,
                                     &PyDict_Type, &self->kinds, &self->unset, &PyTuple_Type, &self->parts, &self->large, &self->bulk,
                                     &self->big)) {
        self->walker = self->objects = self->nodes = self->big_ints = self->singletons = self->volatile_ = self->views = NULL;
        self->regions = self->kinds = self->unset = self->parts = NULL;
        return -1;
    }
    PyObject *owned[] = {self->walker, self->objects, self->nodes, self->big_ints, self->singletons, self->volatile_, self->views,
                         self->regions, self->kinds, self->unset, self->parts};
    for (size_t i = 0; i < sizeof(owned) / sizeof(owned[0]); i++)
        Py_INCREF(owned[i]);
    self->memo_size = 1 << 12;
    self->todo_size = 1 << 8;
    self->types_size = 1 << 7;
    self->memo = PyMem_Calloc(self->memo_size, sizeof(Met));
    self->todo = PyMem_Calloc(self->todo_size, sizeof(Todo));
    self->types = PyMem_Calloc(self->types_size, sizeof(Known *));
    if (self->memo == NULL || self->todo == NULL || self->types == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (PyTuple_GET_SIZE(self->parts) != 0 && PyTuple_GET_SIZE(self->parts) != PARTS) {
        PyErr_Format(PyExc_ValueError, "%zd parts of tensors instead of %d", PyTuple_GET_SIZE(self->parts), PARTS);
        return -1;
    }
    return 0;
}

static PyMethodDef methods[] = {
    {"cell", (PyCFunction)Cells_cell, METH_O, cell_doc},
    {"emit_all", (PyCFunction)Cells_emit_all, METH_O, emit_all_doc},
    {"token_at", (PyCFunction)Cells_token_at, METH_O, token_at_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject CellsType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "flor_trace.state._walk.Cells",
    .tp_basicsize = sizeof(Cells),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The objects met in one walk; see walk.py. It refers to its walker, which must let go of it at the walk's end.",
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)Cells_init,
    .tp_dealloc = (destructor)Cells_dealloc,
    .tp_methods = methods,
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_walk", .m_size = -1, .m_methods = memory_functions};

PyMODINIT_FUNC PyInit__walk(void) {
    struct {
        PyObject **into;
        const char *text;
    } words[] = {
        {&constants.list, "list"}, {&constants.tuple, "tuple"}, {&constants.dict, "dict"}, {&constants.object, "object"},
        {&constants.tensor, "tensor"}, {&constants.cpu, "cpu"}, {&constants.resolved, "resolved"}, {&constants.layout, "place_of_attributes"},
        {&constants.serial, "serial"}, {&constants.low, "low"}, {&constants.high, "high"}, {&constants.flags, "flags"},
        {&constants.nbytes, "nbytes"}, {&constants.device, "device"},
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if ((*words[i].into = PyUnicode_InternFromString(words[i].text)) == NULL)
            return NULL;
    constants.empty = PyTuple_New(0);
    constants.no_bits = PyTuple_Pack(2, Py_False, Py_False);
    if (constants.empty == NULL || constants.no_bits == NULL || PyType_Ready(&CellsType) < 0)
        return NULL;
    PyObject *made = PyModule_Create(&module);
    if (made == NULL || PyModule_AddObjectRef(made, "Cells", (PyObject *)&CellsType) < 0)
        return NULL;
    const char *kinds[] = {"BY_FUNCTION", "LIST", "TUPLE", "DICT", "OBJECT", "TENSOR"};
    for (int kind = 1; kind <= A_TENSOR; kind++)
        if (PyModule_AddIntConstant(made, kinds[kind], kind) < 0)
            return NULL;
    return made;
}
