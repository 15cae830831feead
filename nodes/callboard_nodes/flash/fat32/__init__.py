"""A FAT32 file system inside an image or on a device, read and written without mounting it.

A power cut at any moment leaves every file as it was or as it should be: data first, then the table of clusters, then one
sector of the folder, then what is no longer used is freed. What may be left over is clusters that belong to nobody, and the
mark that the file system was in use, at which the system that boots from it checks it.
"""

from callboard_nodes.flash.fat32.disk import Disk, FileDisk
from callboard_nodes.flash.fat32.folder import Entry
from callboard_nodes.flash.fat32.volume import Fat32

__all__ = ["Disk", "Entry", "Fat32", "FileDisk"]
