"""Remedies for files of kinds that are not read, by their suffix."""

_VIDEO = "videos are not read: save some frames of each as images, in a folder for each class"
_SOUND = "sound is not read: save spectrograms as images, in a folder for each class"
_SHEET = "save the sheet as CSV"
_JSON = "save it as a list of records, or as JSON lines: one record in braces on each line"
_ARRAYS = "save inputs and targets in one file: numpy.savez('data.npz', x=inputs, y=targets)"
_CODE = "it is not opened, since opening it can run code; save arrays with numpy.savez, or a CSV"

FOREIGN_REMEDIES = {
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg"), _VIDEO),
    **dict.fromkeys((".wav", ".mp3", ".flac", ".ogg", ".m4a", ".aac"), _SOUND),
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), _SHEET),
    ".json": _JSON,
    **dict.fromkeys((".npy", ".mat", ".h5", ".hdf5"), _ARRAYS),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".pth", ".joblib"), _CODE),
    **dict.fromkeys((".data", ".txt", ".dat", ".arff"), "save it as CSV: a header, then the rows"),
}
