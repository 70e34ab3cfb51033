# The origin: `docker build -t graft-origin .`, then docs/run/compose-kubernetes.md, "One origin with Docker".
# Not Alpine: ONNX Runtime's native library is built for glibc, and its WebAssembly takes three times as long.
FROM node:22-bookworm-slim AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# What only the edge and the command line need goes, and ONNX Runtime for other systems and for pages: 680 MB become
# about 140.
RUN npm ci --omit=dev --no-audit --no-fund \
  && rm -rf node_modules/wrangler node_modules/workerd node_modules/miniflare node_modules/sharp \
    node_modules/@cloudflare node_modules/@img node_modules/.bin \
    node_modules/onnxruntime-node/bin/napi-v6/darwin node_modules/onnxruntime-node/bin/napi-v6/win32 \
  && find node_modules/onnxruntime-web/dist -type f ! -name 'ort-wasm-simd-threaded.mjs' \
    ! -name 'ort-wasm-simd-threaded.wasm' -delete

FROM node:22-bookworm-slim
WORKDIR /app
ENV NODE_ENV=production GRAFT_CACHE=/cache
RUN mkdir /cache && chown node:node /cache
COPY --from=packages /app/node_modules node_modules
COPY package.json ./
COPY protocol protocol
COPY adapters adapters
COPY gpu-origin gpu-origin
USER node
# Prepared graphs of the base and adapters' files; lost, they are made and sent again.
VOLUME /cache
EXPOSE 8788
# Also while it loads its base and while it drains: whoever starts containers should not kill it for that.
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:8788/healthz').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
# At SIGTERM it finishes running streams for up to 55 s: `docker run --stop-timeout 60`.
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "--import", "tsx", "gpu-origin/main.ts", "--host", "0.0.0.0"]
CMD ["--help"]
