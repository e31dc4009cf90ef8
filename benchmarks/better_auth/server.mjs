// better-auth on Node's own HTTP server, as its documentation has it: sessions in PostgreSQL, no cache of them.
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import pg from "pg";

const { DATABASE_URL, JWT_SECRET, PORT } = process.env;
const options = {
  baseURL: `http://localhost:${PORT ?? 3000}`,
  secret: JWT_SECRET,
  database: new pg.Pool({ connectionString: DATABASE_URL, max: 5 }),
  emailAndPassword: { enabled: true },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  logger: { disabled: true },
};

if (PORT) {
  createServer(toNodeHandler(betterAuth(options))).listen(Number(PORT), "127.0.0.1");
} else {
  const { runMigrations } = await getMigrations(options);
  await runMigrations();
  await options.database.end();
}
