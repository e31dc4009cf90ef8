"""The tests. What helps them, by file:

- `conftest`: the fixtures that most tests use: settings, a clock that is moved, the app, an account, a
  mailbox.
- `databases`, `spare_database`, `postgres`, `pgbouncer`, `proxy`: the databases of a run, one whose
  tables a test makes itself (`SpareDatabase`), servers that a test may break, and what stands in front
  of them. `daemons` starts programs of Debian's; `cluster` is the library on several servers, under load.
- `smtp_server`, `delivery`: a real SMTP server on loopback, and what the tests of delivery share.
- `live`, `served`, `hosts`, `docs_server`: apps under a real server, in this process or another; host
  projects and examples as their owners run them; and a server for the commands of the docs
  (`DocsServer`).
- `form_browser`: pages as they are parsed, and a browser without JavaScript that fills in forms
  (`FormBrowser`). `browsers` is Chromium.
- `own_tables`, `own_columns`, `own_form`, `own_manager`, `strict_tables`, `tables_0_1`,
  `tables_0_1_loose`: the tables of hosts, and those of 0.1. `passes` is a feature of a host.
- `bystander`: accounts that nothing is done to, and whose rows must stay. `world`: an app for state
  machines, which run without a loop of their own.
- `tracked`: one user whose every secret is known, to be looked for where errors are tracked
  (`TrackedUser`).
- `shipped`: what the kernel and all features of the package have together.
- `flows_table`, `snippets`, `typed_host`: what checks the docs: the table of flows, the code in pages,
  and a host for type checkers. `mutants` breaks the code on purpose; `pooled` is a process that uses a
  database fast.
"""
