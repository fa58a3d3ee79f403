# The app in a container: docker build -t lightreasoner . && docker run -p 127.0.0.1:7860:7860 lightreasoner
# For NVIDIA GPUs: docker build --build-arg TORCH=cu130 … and docker run --gpus all …

FROM python:3.11-slim

# Which build of PyTorch, a folder of https://download.pytorch.org/whl: cpu, or cu130 and its like
ARG TORCH=cpu

# Spaces run a container as uid 1000
RUN useradd --create-home --uid 1000 user \
    && install -d -o user -g user /home/user/workspace /home/user/.cache /home/user/.cache/huggingface
WORKDIR /home/user/app

# Before the code, so that a change of the code installs nothing anew. PyTorch comes alone from its own index; what it
# depends on comes with the pinned rest.
COPY requirements.txt .
RUN export PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 \
    && pip install --no-deps --index-url "https://download.pytorch.org/whl/${TORCH}" "$(grep '^torch==' requirements.txt)" \
    && pip install -r requirements.txt

# .dockerignore lets in what the app needs and nothing else. It stays root's: the app cannot change its own code.
COPY . .

USER user
# What it writes lies under the home folder: mount /home/user/workspace to keep runs, /home/user/.cache to keep models
ENV HOME=/home/user \
    HF_HOME=/home/user/.cache/huggingface \
    LIGHTREASONER_WORKSPACE=/home/user/workspace \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['GRADIO_SERVER_PORT'] + '/healthz', timeout=4)"]
CMD ["python", "app.py"]
