"""The playground and the API page: files of this package, under a policy that lets nothing in from outside."""

from pathlib import Path

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

WEB = Path(__file__).parent / "web"
# The least that model-viewer runs under without a complaint: it compiles WebAssembly when it loads ('wasm-unsafe-eval'
# allows no eval of JavaScript), has one <style> element in its shadow tree, and reads textures through blobs.
MODEL_VIEWER_STYLE = "'sha256-PXtZZkJMMyc18o/DN1ZEFOJ2qEGq95IQbVaJFMOXOb0='"  # a browser that meets another names it
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        f"style-src 'self' {MODEL_VIEWER_STYLE}",
        "img-src 'self' blob:",
        "connect-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)


def install(app: FastAPI) -> None:
    """`/` and `/docs`, and their assets under `/web`."""

    async def playground(_: Request) -> Response:
        return _page("index.html")

    async def docs(_: Request) -> Response:
        return _page("docs.html")

    app.add_route("/", playground, include_in_schema=False)
    app.add_route("/docs", docs, include_in_schema=False)
    app.mount("/web", StaticFiles(directory=WEB), name="web")


def _page(name: str) -> Response:
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
    return FileResponse(WEB / name, media_type="text/html", headers=headers)
