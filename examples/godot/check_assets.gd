# Load every imported asset and say what is in it: a mesh with a material, its height, and a convex collision shape.
# godot3-server --path . --editor --quit        imports assets/*/*.glb
# godot3-server --path . -s check_assets.gd     prints a line an asset; exit code 1 if something is missing
extends SceneTree

func _init():
	var failed = 0
	var folder = Directory.new()
	folder.open("res://assets")
	folder.list_dir_begin(true, true)
	var name = folder.get_next()
	while name != "":
		if folder.current_is_dir():
			failed += check("res://assets/%s/%s.glb" % [name, name])
		name = folder.get_next()
	quit(1 if failed else 0)

func check(path):
	var packed = load(path)
	if packed == null:
		print("FAULT %s: not imported" % path)
		return 1
	var root = packed.instance()
	var found = {"meshes": 0, "shapes": 0, "materials": 0, "height": 0.0, "low": 0.0}
	walk(root, found)
	print("%s meshes=%d materials=%d convex=%d height=%.4f low=%.5f" % [path.get_file(), found.meshes, found.materials, found.shapes, found.height, found.low])
	root.free()
	if found.meshes == 0 or found.materials == 0 or found.shapes == 0:
		print("FAULT %s: mesh, material or collision shape is missing" % path)
		return 1
	return 0

func walk(node, found):
	if node is MeshInstance:
		found.meshes += 1
		var box = node.get_aabb()
		found.height = max(found.height, box.size.y)
		found.low = box.position.y
		if node.mesh.surface_get_material(0) != null:
			found.materials += 1
	if node is CollisionShape and node.shape is ConvexPolygonShape:
		found.shapes += 1
	for child in node.get_children():
		walk(child, found)
