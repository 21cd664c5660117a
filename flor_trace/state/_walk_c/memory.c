/* What all regions of memory that a walk has met have in common with memory.py: their hashes, and where they lie. */

#include "walk.h"

PyDoc_STRVAR(small_digests_doc,
             "small_digests(regions, limit, digest): by address, what `digest` says of the seen bytes of all of the CPU's regions with fewer than "
             "`limit`.");

/* A whole number that a region has as an attribute; -1 on failure. */
static int number_of(PyObject *region, PyObject *name, long long *into) {
    PyObject *found = PyObject_GetAttr(region, name);
    if (found == NULL)
        return -1;
    *into = PyLong_AsLongLong(found);
    Py_DECREF(found);
    return PyErr_Occurred() ? -1 : 0;
}

/* The hash of what is seen of a region; None where that is not less than `limit`, or elsewhere. */
static PyObject *small_digest(PyObject *region, Py_ssize_t limit, PyObject *digest) {
    long long low, high;
    if (number_of(region, constants.low, &low) < 0 || number_of(region, constants.high, &high) < 0)
        return NULL;
    PyObject *device = PyObject_GetAttr(region, constants.device);
    if (device == NULL)
        return NULL;
    int passed = high - low >= limit || PyUnicode_Compare(device, constants.cpu) != 0;
    Py_DECREF(device);
    if (PyErr_Occurred())
        return NULL;
    if (passed)
        return Py_NewRef(Py_None);
    PyObject *bytes = PyMemoryView_FromMemory((char *)(uintptr_t)low, high > low ? (Py_ssize_t)(high - low) : 0, PyBUF_READ);
    PyObject *found = bytes == NULL ? NULL : PyObject_CallOneArg(digest, bytes);
    Py_XDECREF(bytes);
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
        long long start = PyLong_AsLongLong(address), size;
        if (PyErr_Occurred() || number_of(region, constants.nbytes, &size) < 0)
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
    long long at = PyLong_AsLongLong(address), low, high, flags, nbytes;
    if (PyErr_Occurred() || number_of(region, constants.low, &low) < 0 || number_of(region, constants.high, &high) < 0 ||
        number_of(region, constants.flags, &flags) < 0 || number_of(region, constants.nbytes, &nbytes) < 0)
        return NULL;
    int seen = high > low;
    /* tuple's own constructor: that of a named tuple is written in Python */
    PyObject *words = Py_BuildValue("((LOLLL))", seen ? high - low : 0LL, digest, flags, seen ? low - at : 0LL, nbytes);
    PyObject *made = words == NULL ? NULL : PyTuple_Type.tp_new(type, words, NULL);
    Py_XDECREF(words);
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
