/* What all regions of memory that a walk has met have in common with memory.py: their hashes, and where they lie. */

#include "walk.h"

PyDoc_STRVAR(small_digests_doc,
             "small_digests(regions, limit, digest): by address, what `digest` says of the seen bytes of all of the CPU's regions with fewer than "
             "`limit`.");

/* The hash of what is seen of a region; None where that is not less than `limit`, or elsewhere. */
static PyObject *small_digest(PyObject *region, Py_ssize_t limit, PyObject *digest) {
    PyObject *low = PyObject_GetAttr(region, constants.low), *high = PyObject_GetAttr(region, constants.high), *found = NULL;
    PyObject *device = PyObject_GetAttr(region, constants.device);
    if (low != NULL && high != NULL && device != NULL) {
        long long from = PyLong_AsLongLong(low), to = PyLong_AsLongLong(high);
        if (!PyErr_Occurred() && (to - from >= limit || PyUnicode_Compare(device, constants.cpu)))
            found = Py_NewRef(Py_None);
        else if (!PyErr_Occurred()) {
            PyObject *bytes = PyMemoryView_FromMemory((char *)(uintptr_t)from, to > from ? (Py_ssize_t)(to - from) : 0, PyBUF_READ);
            found = bytes == NULL ? NULL : PyObject_CallOneArg(digest, bytes);
            Py_XDECREF(bytes);
        }
    }
    Py_XDECREF(low);
    Py_XDECREF(high);
    Py_XDECREF(device);
    return found;
}

static PyObject *small_digests(PyObject *module, PyObject *words) {
    PyObject *regions, *digest, *address, *region;
    Py_ssize_t limit, at = 0;
    if (!PyArg_ParseTuple(words, "O!nO", &PyDict_Type, &regions, &limit, &digest))
        return NULL;
    PyObject *digests = PyDict_New();
    while (digests != NULL && PyDict_Next(regions, &at, &address, &region)) {
        PyObject *found = small_digest(region, limit, digest);
        if (found == NULL || (found != Py_None && PyDict_SetItem(digests, address, found) < 0))
            Py_CLEAR(digests);
        Py_XDECREF(found);
    }
    return digests;
}

PyDoc_STRVAR(lie_apart_doc, "lie_apart(regions, addresses): whether no region overlaps the next one; the addresses are sorted.");

static PyObject *lie_apart(PyObject *module, PyObject *words) {
    PyObject *regions, *addresses;
    long long end = 0;
    if (!PyArg_ParseTuple(words, "O!O!", &PyDict_Type, &regions, &PyList_Type, &addresses))
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(addresses); i++) {
        PyObject *address = PyList_GET_ITEM(addresses, i), *region = PyDict_GetItemWithError(regions, address);
        if (region == NULL)
            return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_KeyError, "no region at %R", address);
        PyObject *nbytes = PyObject_GetAttr(region, constants.nbytes);
        if (nbytes == NULL)
            return NULL;
        long long start = PyLong_AsLongLong(address), size = PyLong_AsLongLong(nbytes);
        Py_DECREF(nbytes);
        if (PyErr_Occurred())
            return NULL;
        if (i && start < end)
            Py_RETURN_FALSE;
        end = start + size;
    }
    Py_RETURN_TRUE;
}

PyDoc_STRVAR(buffers_doc, "buffers(regions, digests, Buffer): memory.py `Memory.buffers` of regions whose digests are known.");

/* One region's buffer. */
static PyObject *buffer_of(PyObject *address, PyObject *region, PyObject *digest, PyTypeObject *type) {
    PyObject *low = PyObject_GetAttr(region, constants.low), *high = PyObject_GetAttr(region, constants.high);
    PyObject *flags = PyObject_GetAttr(region, constants.flags), *nbytes = PyObject_GetAttr(region, constants.nbytes), *made = NULL;
    if (low != NULL && high != NULL && flags != NULL && nbytes != NULL) {
        long long from = PyLong_AsLongLong(low), seen = PyLong_AsLongLong(high) - from, at = PyLong_AsLongLong(address);
        if (!PyErr_Occurred()) {
            /* tuple's own constructor: that of a named tuple is written in Python */
            PyObject *words = Py_BuildValue("((LOOLO))", seen > 0 ? seen : 0, digest, flags, seen > 0 ? from - at : 0, nbytes);
            made = words == NULL ? NULL : PyTuple_Type.tp_new(type, words, NULL);
            Py_XDECREF(words);
        }
    }
    Py_XDECREF(low);
    Py_XDECREF(high);
    Py_XDECREF(flags);
    Py_XDECREF(nbytes);
    return made;
}

static PyObject *buffers(PyObject *module, PyObject *words) {
    PyObject *regions, *digests, *type, *address, *region;
    Py_ssize_t at = 0;
    if (!PyArg_ParseTuple(words, "O!O!O!", &PyDict_Type, &regions, &PyDict_Type, &digests, &PyType_Type, &type))
        return NULL;
    PyObject *found = PyDict_New();
    while (found != NULL && PyDict_Next(regions, &at, &address, &region)) {
        PyObject *digest = PyDict_GetItemWithError(digests, address), *made = NULL;
        if (digest == NULL && !PyErr_Occurred())
            PyErr_SetObject(PyExc_KeyError, address);
        if (digest != NULL)
            made = buffer_of(address, region, digest, (PyTypeObject *)type);
        if (made == NULL || PyDict_SetItem(found, address, made) < 0)
            Py_CLEAR(found);
        Py_XDECREF(made);
    }
    return found;
}

PyMethodDef memory_functions[] = {
    {"lie_apart", lie_apart, METH_VARARGS, lie_apart_doc},
    {"buffers", buffers, METH_VARARGS, buffers_doc},
    {"small_digests", small_digests, METH_VARARGS, small_digests_doc},
    {NULL, NULL, 0, NULL},
};
