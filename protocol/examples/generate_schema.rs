//! Writes `protocol/schema/native.schema.json` and `protocol/schema/native.asyncapi.json` anew:
//! `cargo run -p repartee-protocol --example generate_schema`.

use std::path::Path;

use repartee_protocol::native::schema;

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    std::fs::create_dir_all(&folder)?;
    for (name, document) in [
        ("native.schema.json", schema::json_schema()),
        ("native.asyncapi.json", schema::asyncapi()),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, format!("{document:#}\n"))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}
