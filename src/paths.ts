import { existsSync } from "node:fs";
import path from "node:path";

/** The folder of package.json: the same from src/ (tsx) and from dist/src/ (built). */
function findRoot(): string {
  let folder = import.meta.dirname;
  while (!existsSync(path.join(folder, "package.json"))) {
    const parent = path.dirname(folder);
    if (parent === folder) throw new Error(`No package.json above ${import.meta.dirname}`);
    folder = parent;
  }
  return folder;
}

export const ROOT_DIR = findRoot();

/** Migrations of the registry, schema `public`. */
export const REGISTRY_MIGRATIONS_DIR = path.join(ROOT_DIR, "migrations");

/** Migrations of every tenant's schema. */
export const TENANT_MIGRATIONS_DIR = path.join(ROOT_DIR, "tenant-migrations");

/** The operators' console: its sources, and in `dist` what is served. */
export const CONSOLE_DIR = path.join(ROOT_DIR, "admin");

/**
 * Where a file of the sources is that is run by its path: itself, or in built code what was made of it.
 *
 * @param source from the root, such as `src/auth/hash-worker.js`
 */
export function runnable(source: string): string {
  const built = path.join(ROOT_DIR, "dist");
  return path.join(import.meta.dirname.startsWith(built + path.sep) ? built : ROOT_DIR, source);
}
