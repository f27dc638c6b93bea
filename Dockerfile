# The image of the service: built code and production dependencies, run by a user without rights.
# What it was tried on is Node 20; any release that package.json allows can be named here.
ARG NODE_IMAGE=node:20-bookworm-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json ./
COPY admin/package.json admin/package.json
COPY clients/typescript/package.json clients/typescript/package.json
COPY examples/spa/package.json examples/spa/package.json
RUN npm ci --ignore-scripts
COPY tsconfig.json ./
COPY src src
COPY scripts scripts
COPY admin admin
# Read by what compiles the service ahead, as by every start.
COPY tenant-migrations tenant-migrations
RUN npm run build

FROM ${NODE_IMAGE} AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
COPY admin/package.json admin/package.json
COPY clients/typescript/package.json clients/typescript/package.json
COPY examples/spa/package.json examples/spa/package.json
RUN npm ci --omit=dev --workspaces=false

FROM ${NODE_IMAGE}
ENV NODE_ENV=production
WORKDIR /app
COPY --from=dependencies /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY --from=build /app/admin/dist admin/dist
COPY package.json ./
COPY migrations migrations
COPY tenant-migrations tenant-migrations
# Written to with APP_ENV=local only: the secrets it made, the messages it "sent".
RUN mkdir .data && chown node:node .data
USER node
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 8000}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
CMD ["node", "dist/src/server.js"]
