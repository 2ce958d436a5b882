//! Serves a small random model and asks it at two sizes: `cargo run --release -p matformer-serve --example ask_yourself`.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use burn::tensor::Device;
use matformer_data::Tokenizer;
use matformer_engine::{EngineModel, Format};
use matformer_lm::{MatLm, MatLmConfig};
use matformer_nn::Elastic;
use matformer_serve::{ServeOptions, ServedModel, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let text = "The fox finds the old key by the mill. ".repeat(50);
    let tokenizer = Tokenizer::train(&[text], 300, folder.path())?;
    let config = MatLmConfig {
        vocab_size: tokenizer.vocab_size(),
        d_model: 64,
        n_layers: 2,
        d_ff: 256,
        ..MatLmConfig::default()
    };
    let model = MatLm::new(&config, 0, &Device::flex())?;
    let space = model.space().clone();
    let served = ServedModel {
        name: "random".to_owned(),
        engine: EngineModel::of(&model, Format::F32)?,
        ends: vec![tokenizer.eos()],
        tokenizer,
        template: None,
        default: space.largest(),
        sizes: Vec::new(),
        trained: space.uniforms(),
        fingerprint: "none".to_owned(),
        resolve: Box::new(move |spec| {
            spec.resolve(&space, &Default::default()).map_err(|error| error.to_string())
        }),
    };
    let any: SocketAddr = "127.0.0.1:0".parse()?;
    let server = Server::start(served, ServeOptions::new(any))?;
    let (address, stopper) = (server.address(), server.stopper());
    let serving = std::thread::spawn(move || server.run());
    for size in ["S", "XL"] {
        let body =
            format!(r#"{{"model": "random@{size}", "prompt": "The fox", "temperature": 0}}"#);
        println!("{}", post(address, "/v1/completions", &body)?);
    }
    stopper.stop();
    match serving.join() {
        Ok(ended) => println!("{:?}", ended?),
        Err(_) => eprintln!("the server's thread panicked"),
    }
    Ok(())
}

/// The body of the answer to a request.
fn post(address: SocketAddr, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map_or(answer.clone(), |(_, body)| body.to_owned()))
}
