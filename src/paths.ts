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
