"""Import a batch into Blender, check every asset against its manifest, and render a picture of each.

blender --background --python examples/blender_import.py -- assets/ --render renders/ [--save scene.blend]

Blender's own Python needs nothing of ours: manifest.json says what is there. Where something is not as it says, the
script ends with exit code 1 and a line a fault.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import bpy
import numpy
from mathutils import Vector

if not hasattr(numpy, "bool"):
    numpy.bool = bool  # Blender 3.4's glTF importer asks newer numpy for a name that it has dropped

APART = 1e-4  # of an asset's size


def imported(path):
    """The objects that a file brings along."""
    before = set(bpy.data.objects)
    bpy.ops.import_scene.gltf(filepath=str(path))
    return [thing for thing in bpy.data.objects if thing not in before]


def bounds(objects):
    """Corners of the box around meshes, in the world."""
    corners = [
        thing.matrix_world @ Vector(corner) for thing in objects if thing.type == "MESH" for corner in thing.bound_box
    ]
    return [min(c[i] for c in corners) for i in range(3)], [max(c[i] for c in corners) for i in range(3)]


def faults_of(folder):
    """What is not as the manifest of a folder says, and the objects of its main file."""
    manifest = json.loads((folder / "manifest.json").read_text())
    main = next(file for file in manifest["files"] if file["role"] == "mesh" and file["name"].endswith(".glb"))
    objects = imported(folder / main["name"])
    low, high = bounds(objects)
    found = [high[i] - low[i] for i in range(3)]
    # Blender is +Z up like object space; glTF's front, +Z, becomes -Y there, so x and y change places.
    x, y, z = manifest["extent_m"]
    size, faults = max(x, y, z), []
    if any(abs(a - b) > APART * size for a, b in zip(found, (y, x, z), strict=True)):
        faults.append(f"size {found} instead of {(y, x, z)}")
    if abs(low[2]) > APART * size or abs(low[0] + high[0]) > APART * size or abs(low[1] + high[1]) > APART * size:
        faults.append(f"pivot: box {low} to {high} does not stand centred on the ground")
    names = [thing.name.split(".")[0] for thing in objects]
    if manifest["name"] not in names:
        faults.append(f"names {names} without {manifest['name']!r}")
    noted = [thing for thing in objects if thing.get("model") == manifest["model"]]
    if not noted or noted[0].get("prompt") != manifest["prompt"]:
        faults.append("the root's extras did not arrive")
    triangles = sum(len(thing.data.loop_triangles) for thing in objects if thing.type == "MESH" and prepared(thing))
    if triangles != main["triangles"]:
        faults.append(f"{triangles} triangles instead of {main['triangles']}")
    pictures = [image for image in bpy.data.images if image.size[0] > 0]
    if any(file["role"] == "mesh" for file in manifest["files"]) and not pictures and not vertex_colors(objects):
        faults.append("neither a texture nor vertex colours")
    return faults, objects


def prepared(thing):
    """Triangles are counted once they are computed."""
    thing.data.calc_loop_triangles()
    return True


def vertex_colors(objects):
    """Whether a mesh has colours at its vertices."""
    return any(len(thing.data.color_attributes) for thing in objects if thing.type == "MESH")


def render(objects, path, pixels=128):
    """A picture from the front right, with Cycles on the CPU."""
    scene = bpy.context.scene
    low, high = bounds(objects)
    center = Vector([(a + b) / 2 for a, b in zip(low, high, strict=True)])
    distance = 1.6 * (Vector(high) - Vector(low)).length
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.location = center + distance * Vector((0.5, -0.7, 0.5))
    camera.rotation_euler = (center - camera.location).to_track_quat("-Z", "Y").to_euler()
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.rotation_euler = (math.radians(40), 0, math.radians(30))
    sun.data.energy = 4
    for thing in (camera, sun):
        scene.collection.objects.link(thing)
    scene.camera = camera
    scene.render.engine, scene.cycles.samples, scene.cycles.device = "CYCLES", 8, "CPU"
    scene.cycles.use_denoising = False  # not in every build
    scene.render.resolution_x = scene.render.resolution_y = pixels
    scene.render.film_transparent = True
    scene.render.filepath = str(path)
    bpy.ops.render.render(write_still=True)


def main():
    """Go through the folders of a batch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("assets", type=Path)
    parser.add_argument("--render", type=Path)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args(sys.argv[sys.argv.index("--") + 1 :])
    failed = 0
    folders = sorted(path.parent for path in options.assets.glob("*/manifest.json"))
    for folder in folders:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        faults, objects = faults_of(folder)
        for fault in faults:
            print(f"FAULT {folder.name}: {fault}")
        failed += bool(faults)
        if options.render:
            render(objects, options.render / f"{folder.name}.png")
        if options.save and folder == folders[-1]:
            bpy.ops.wm.save_as_mainfile(filepath=str(options.save))
    print(f"{len(folders)} assets imported, {failed} with faults")
    sys.exit(1 if failed or not folders else 0)


main()
